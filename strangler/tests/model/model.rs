//! The model as the checker sees it: which actions there are, and what is left when nothing begins and nothing fails.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use strangler::{Home, Phase};

use crate::action::{Action, needs_snapshot};
use crate::property;
use crate::rules::Rules;
use crate::world::{Fault, Key, Site, Work, World};

/// How large a run is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) keys: usize,
    /// Where a key may be born.
    pub(crate) births: &'static [Home],
    /// No controller begins anything at this epoch of a key or above; what has begun goes on.
    pub(crate) epoch_max: i64,
    /// Writes of a key, by either home.
    pub(crate) writes: u8,
    /// Snapshots of a key that nobody needs.
    pub(crate) snapshots: u8,
    /// How often the target is emptied.
    pub(crate) empties: u8,
    /// How many records are given up by their home.
    pub(crate) skips: u8,
}

/// The model: bounds and rules, and the names of the steps that were taken.
#[derive(Clone)]
pub(crate) struct Model {
    pub(crate) bounds: Bounds,
    pub(crate) rules: Rules,
    pub(crate) taken: Arc<Mutex<BTreeSet<&'static str>>>,
}

impl Model {
    pub(crate) fn new(bounds: Bounds, rules: Rules) -> Self {
        Self { bounds, rules, taken: Arc::default() }
    }

    /// Whether an action is no fault, no repeat and no new beginning: what goes on when faults stop.
    fn is_calm(&self, world: &World, action: Action) -> bool {
        let row = |at: usize| world.keys[at].owner;
        let now = |at, epoch| row(at).is_some_and(|row| row.epoch == epoch);
        match action {
            Action::Open(..)
            | Action::Commit(..)
            | Action::Relay(_)
            | Action::Read(_)
            | Action::AskReady(_) => true,
            Action::Decide(at, epoch) | Action::NoteGrant(at, epoch) => now(at, epoch),
            Action::Grant(at, epoch) => {
                now(at, epoch) && row(at).is_some_and(|row| row.phase == Phase::Settled)
            }
            Action::AskRelease(at, epoch) => now(at, epoch),
            Action::Snapshot(at, _) => needs_snapshot(world, at),
            Action::Again(home, n) => {
                let record = world.log[n];
                record.version > world.keys[record.key].copy(home).cursor
            }
            Action::Born(..)
            | Action::Intend(..)
            | Action::Die(..)
            | Action::Empty
            | Action::Skip(_)
            | Action::Fence(_)
            | Action::TimeOut(..)
            | Action::Recall(_)
            | Action::Cancel(..) => false,
        }
    }

    /// Whether something goes on by itself.
    pub(crate) fn goes_on(&self, world: &World) -> bool {
        let mut actions = Vec::new();
        stateright::Model::actions(self, world, &mut actions);
        actions.into_iter().any(|action| {
            self.is_calm(world, action) && stateright::Model::next_state(self, world, action).is_some()
        })
    }
}

impl stateright::Model for Model {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let Bounds { keys, writes, snapshots, empties, skips, .. } = self.bounds;
        let site = Site { outbox: Vec::new(), position: 0 };
        vec![World {
            keys: vec![Key::unborn(writes, snapshots); keys],
            log: Vec::new(),
            sites: [site.clone(), site],
            empties_left: empties,
            skips_left: skips,
            fault: None,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for home in [Home::Source, Home::Target] {
            let site = &world.sites[home as usize];
            actions.extend([Action::Relay(home), Action::Read(home), Action::Skip(home)]);
            actions.extend((0..site.position).map(|n| Action::Again(home, n)));
        }
        for (at, key) in world.keys.iter().enumerate() {
            if key.owner.is_none() {
                actions.extend(self.bounds.births.iter().map(|home| Action::Born(at, *home)));
                continue;
            }
            for home in [Home::Source, Home::Target] {
                actions.extend(match key.copy(home).work {
                    Work::Idle => [Action::Intend(at, home), Action::Snapshot(at, home)],
                    Work::Intent => [Action::Open(at, home), Action::Snapshot(at, home)],
                    Work::Open => [Action::Commit(at, home), Action::Die(at, home)],
                });
            }
            actions.extend([Action::AskReady(at), Action::Fence(at), Action::Recall(at)]);
            actions.extend(key.sent.moves.iter().map(|epoch| Action::TimeOut(at, epoch)));
            actions.extend(key.sent.ready.iter().map(|epoch| Action::Decide(at, epoch)));
            actions.extend(key.sent.grant.iter().map(|epoch| Action::Grant(at, epoch)));
            actions.extend(key.sent.granted.iter().map(|epoch| Action::NoteGrant(at, epoch)));
            actions.extend(key.sent.recall.iter().map(|epoch| Action::AskRelease(at, epoch)));
            actions.extend(key.sent.recall.iter().map(|epoch| Action::Cancel(at, epoch)));
        }
        actions.push(Action::Empty);
    }

    fn next_state(&self, before: &World, action: Action) -> Option<World> {
        let mut world = before.clone();
        self.act(&mut world, action)?;
        if world == *before {
            return None;
        }
        if self.is_calm(before, action) && property::progress(&world) <= property::progress(before) {
            world.fault = world.fault.or(Some(Fault::NotNearer));
        }
        Some(world)
    }

    fn properties(&self) -> Vec<stateright::Property<Self>> {
        property::all()
    }
}
