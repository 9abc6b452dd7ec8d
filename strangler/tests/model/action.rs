//! What may happen next, and what comes of it.

use strangler::handover::{Effect, Facts, source, target};
use strangler::{Epoch, Home, Phase};

use crate::model::Model;
use crate::world::{Fault, Key, Kind, Work, World};

/// One step of one process, each a transaction or the arrival of a message. A crash is that the next one never comes; what it
/// may leave half done is a state of its own (`Work`), and a lost answer a message that does not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Born(usize, Home),
    /// An intent is committed.
    Intend(usize, Home),
    /// The transaction of its outcome locks the row and is let in.
    Open(usize, Home),
    /// That transaction commits.
    Commit(usize, Home),
    /// That transaction's process dies.
    Die(usize, Home),
    /// Backfill or repair.
    Snapshot(usize, Home),
    Relay(Home),
    /// A home gives its oldest record up, and a filler goes in its place.
    Skip(Home),
    /// A replica reads its next record.
    Read(Home),
    /// A replica meets a record again that it has read: repeated by a relay, read again after a crash, or parked till now.
    Again(Home, usize),
    /// The target is emptied, and reads on from the log's end.
    Empty,
    Fence(usize),
    AskReady(usize),
    Decide(usize, Epoch),
    TimeOut(usize, Epoch),
    Grant(usize, Epoch),
    NoteGrant(usize, Epoch),
    Recall(usize),
    AskRelease(usize, Epoch),
    Cancel(usize, Epoch),
}

impl Model {
    /// The step of the source's row, with its effect.
    pub(crate) fn step_source(
        &self,
        world: &mut World,
        at: usize,
        message: source::Message,
        epoch: Epoch,
    ) -> Option<Effect> {
        let key = &mut world.keys[at];
        let facts = facts(key, Home::Source);
        let (row, step) = (self.rules.source)(key.owner?, message, epoch, facts).ok()?;
        key.owner = Some(row);
        self.effect(world, at, Home::Source, row.epoch, step.effect);
        self.note(step.name);
        Some(step.effect)
    }

    /// The step of the target's row, with its effect.
    pub(crate) fn step_target(
        &self,
        world: &mut World,
        at: usize,
        message: target::Message,
        epoch: Epoch,
    ) -> Option<Effect> {
        let key = &mut world.keys[at];
        let facts = facts(key, Home::Target);
        let (row, step) = (self.rules.target)(key.authority, message, epoch, facts).ok()?;
        key.authority = row;
        let epoch = row.map_or(epoch, |row| row.epoch);
        self.effect(world, at, Home::Target, epoch, step.effect);
        self.note(step.name);
        Some(step.effect)
    }

    /// What a step publishes or sends. Writing and applying is its caller's.
    fn effect(&self, world: &mut World, at: usize, home: Home, epoch: Epoch, effect: Effect) {
        let sent = &mut world.keys[at].sent;
        match effect {
            Effect::Nothing | Effect::Write | Effect::Apply | Effect::ReplyBusy | Effect::ReplyReleased => {}
            Effect::PublishOffer => {
                sent.moves.add(epoch);
                world.publish(home, at, Kind::Offered, epoch);
            }
            Effect::PublishRelease => world.publish(home, at, Kind::Released, epoch),
            Effect::PublishSnapshot => world.publish(home, at, Kind::Snapshot, epoch),
            Effect::SendGrant => sent.grant.add(epoch),
            Effect::SendRecall => {
                sent.recall.add(epoch);
                if !self.rules.settled_epochs {
                    sent.grant.add(epoch);
                }
            }
            Effect::ReplyReady => sent.ready.add(epoch),
            Effect::ReplyGranted => sent.granted.add(epoch),
        }
    }

    fn note(&self, step: &'static str) {
        self.taken.lock().unwrap().insert(step);
    }

    /// Whether an epoch is low enough for a controller to begin something.
    fn begins(&self, key: &Key) -> Option<()> {
        (key.owner?.epoch.get() < self.bounds.epoch_max).then_some(())
    }

    pub(crate) fn act(&self, world: &mut World, action: Action) -> Option<()> {
        use source::Message as S;
        use target::Message as T;
        let none = Epoch(0);
        match action {
            Action::Born(at, home) => born(world, at, home),
            Action::Intend(at, home) => self.intend(world, at, home)?,
            Action::Open(at, home) => self.open(world, at, home)?,
            Action::Commit(at, home) => commit(world, at, home)?,
            Action::Die(at, home) => {
                let copy = world.keys[at].copy_mut(home);
                copy.work = (copy.work == Work::Open).then_some(Work::Intent)?;
            }
            Action::Snapshot(at, home) => self.snapshot(world, at, home)?,
            Action::Relay(home) => world.relay(home)?,
            Action::Skip(home) => world.skip(home)?,
            Action::Read(home) => {
                let site = &mut world.sites[home as usize];
                let record = *world.log.get(site.position)?;
                site.position += 1;
                world.meet(self, home, record);
            }
            Action::Again(home, n) => {
                let record = world.log[n];
                world.meet(self, home, record);
            }
            Action::Empty => self.empty(world)?,
            Action::Fence(at) => {
                self.begins(&world.keys[at])?;
                self.step_source(world, at, S::Fence, none)?;
            }
            Action::AskReady(at) => {
                let row = world.keys[at].owner.filter(|row| row.phase == Phase::Moving)?;
                self.step_target(world, at, T::Ready, row.epoch)?;
            }
            Action::Decide(at, epoch) => self.decide(world, at, epoch)?,
            Action::TimeOut(at, epoch) => {
                self.begins(&world.keys[at])?;
                self.step_source(world, at, S::TimeOut, epoch)?;
            }
            Action::Grant(at, epoch) => {
                self.step_target(world, at, T::Grant, epoch)?;
            }
            Action::NoteGrant(at, epoch) => {
                self.step_source(world, at, S::Granted, epoch)?;
            }
            Action::Recall(at) => {
                self.begins(&world.keys[at])?;
                self.step_source(world, at, S::Recall, none)?;
            }
            Action::AskRelease(at, epoch) => {
                self.step_target(world, at, T::Recall, epoch)?;
            }
            Action::Cancel(at, epoch) => {
                self.begins(&world.keys[at])?;
                self.step_source(world, at, S::Cancel, epoch)?;
            }
        }
        Some(())
    }

    /// Whether the home may begin, or end, work on a key.
    pub(crate) fn lets(&self, key: &Key, home: Home, begins: bool) -> bool {
        let facts = facts(key, home);
        match home {
            Home::Source => key.owner.is_some_and(|row| {
                let message = if begins { source::Message::Intent } else { source::Message::Outcome };
                (self.rules.source)(row, message, row.epoch, facts).is_ok()
            }),
            Home::Target => {
                let message = if begins { target::Message::Intent } else { target::Message::Outcome };
                (self.rules.target)(key.authority, message, Epoch(0), facts).is_ok()
            }
        }
    }

    fn intend(&self, world: &mut World, at: usize, home: Home) -> Option<()> {
        let key = &world.keys[at];
        let can = key.writes_left > 0 && key.copy(home).known() && key.copy(home).work == Work::Idle;
        (can && self.lets(key, home, true)).then_some(())?;
        match home {
            Home::Source => self.step_source(world, at, source::Message::Intent, Epoch(0))?,
            Home::Target => self.step_target(world, at, target::Message::Intent, Epoch(0))?,
        };
        let key = &mut world.keys[at];
        key.writes_left -= 1;
        key.copy_mut(home).work = Work::Intent;
        Some(())
    }

    fn open(&self, world: &mut World, at: usize, home: Home) -> Option<()> {
        (world.keys[at].copy(home).work == Work::Intent).then_some(())?;
        match home {
            Home::Source => self.step_source(world, at, source::Message::Outcome, Epoch(0))?,
            Home::Target => self.step_target(world, at, target::Message::Outcome, Epoch(0))?,
        };
        world.keys[at].copy_mut(home).work = Work::Open;
        Some(())
    }

    fn snapshot(&self, world: &mut World, at: usize, home: Home) -> Option<()> {
        world.keys[at].copy(home).known().then_some(())?;
        if !needs_snapshot(world, at) {
            let left = &mut world.keys[at].snapshots_left;
            *left = left.checked_sub(1)?;
        }
        match home {
            Home::Source => self.step_source(world, at, source::Message::Snapshot, Epoch(0))?,
            Home::Target => self.step_target(world, at, target::Message::Snapshot, Epoch(0))?,
        };
        Some(())
    }

    fn decide(&self, world: &mut World, at: usize, epoch: Epoch) -> Option<()> {
        let offered = world.keys[at].owner?.epoch;
        self.step_source(world, at, source::Message::Ready, epoch)?;
        let is_offer = |kind, epoch| kind == Kind::Offered && epoch == offered;
        let offer = world.log.iter().find(|record| record.key == at && is_offer(record.kind, record.epoch));
        if offer.is_some_and(|offer| offer.content != world.keys[at].truth) {
            world.fault = Some(Fault::LeftOut);
        }
        Some(())
    }

    fn empty(&self, world: &mut World) -> Option<()> {
        world.empties_left = world.empties_left.checked_sub(1)?;
        let home = Home::Target as usize;
        world.sites[home].outbox.is_empty().then_some(())?;
        for at in 0..world.keys.len() {
            let Some(row) = world.keys[at].owner else { continue };
            let at_rest = row.phase == Phase::Settled || !self.rules.emptied_at_rest;
            (row.owner == Home::Source && at_rest).then_some(())?;
            self.step_target(world, at, target::Message::Empty, Epoch(0))?;
            let copy = world.keys[at].copy_mut(Home::Target);
            copy.content = None;
            copy.cursor = if self.rules.cursors_stay { copy.cursor.max(copy.head) } else { 0 };
            copy.awaiting = copy.cursor > 0;
        }
        world.sites[home].position = world.log.len();
        Some(())
    }
}

fn born(world: &mut World, at: usize, home: Home) {
    world.keys[at].owner = Some(source::Row::born(home));
    // By another module of the source's database, so the source's replica meets it too.
    world.publish(Home::Source, at, Kind::Born(home), Epoch::BIRTH);
}

fn commit(world: &mut World, at: usize, home: Home) -> Option<()> {
    let copy = world.keys[at].copy_mut(home);
    copy.work = (copy.work == Work::Open).then_some(Work::Idle)?;
    world.publish(home, at, Kind::Write, Epoch(0));
    Some(())
}

fn facts(key: &Key, home: Home) -> Facts {
    let copy = key.copy(home);
    Facts { quiet: copy.known() && copy.work == Work::Idle, known: copy.known() }
}

/// Whether only a snapshot can complete a copy of this key: everything was delivered and read, and one is not whole.
pub(crate) fn needs_snapshot(world: &World, at: usize) -> bool {
    let read = world.sites.iter().all(|site| site.outbox.is_empty() && site.position == world.log.len());
    read && world.keys[at].copies.iter().any(|copy| !copy.known())
}
