//! The stream of a key: publishing, the relay, and the gate of a replica, as `outbox` has them.

use strangler::handover::{Effect, source, target};
use strangler::{Epoch, Home};

use crate::model::Model;
use crate::world::{Fault, Kind, Record, World, wrote};

impl World {
    /// Publishes a record of a home's key, in the transaction that changes its copy.
    pub(crate) fn publish(&mut self, home: Home, at: usize, kind: Kind, epoch: Epoch) {
        let key = &mut self.keys[at];
        if kind == Kind::Write {
            key.truth = wrote(key.truth, home);
            let copy = key.copy_mut(home);
            copy.content = copy.content.map(|content| wrote(content, home));
        }
        let copy = key.copy_mut(home);
        copy.head += 1;
        let (version, content) = (copy.head, copy.content.unwrap_or(0));
        self.sites[home as usize].outbox.push(Record {
            key: at,
            kind,
            version,
            origin: home,
            epoch,
            content,
        });
    }

    /// The relay delivers a home's oldest record. That it may deliver one again is `Action::Again`.
    pub(crate) fn relay(&mut self, home: Home) -> Option<()> {
        let outbox = &mut self.sites[home as usize].outbox;
        if outbox.is_empty() {
            return None;
        }
        self.log.push(outbox.remove(0));
        Some(())
    }

    /// A home gives its oldest record up. Never a key's first, nor one that hands it over.
    pub(crate) fn skip(&mut self, home: Home) -> Option<()> {
        let record = self.sites[home as usize].outbox.first_mut()?;
        matches!(record.kind, Kind::Write | Kind::Snapshot).then_some(())?;
        self.skips_left = self.skips_left.checked_sub(1)?;
        record.kind = Kind::Skipped;
        Some(())
    }

    /// The gate of a home's replica. Nothing changes for a record that has no turn: it is dropped, or waits and comes again.
    pub(crate) fn meet(&mut self, model: &Model, home: Home, record: Record) {
        let copy = self.keys[record.key].copy_mut(home);
        let next = record.version == copy.cursor + 1 && !copy.awaiting;
        if record.origin == home && record.version > 1 {
            if record.version > copy.head {
                self.fault = Some(Fault::WentBack);
            } else if next {
                copy.cursor = record.version;
            }
        } else if record.kind == Kind::Skipped && next {
            (copy.cursor, copy.head) = (record.version, copy.head.max(record.version));
            copy.awaiting = model.rules.fillers_count;
        } else if next || record.kind.is_whole() && record.version > copy.cursor {
            self.apply(model, home, record);
        } else if copy.cursor == 0 && copy.content.is_none() && record.version > 1 {
            copy.awaiting = true;
        } else if !model.rules.gated && record.version <= copy.cursor && copy.known() {
            self.apply(model, home, record);
        }
    }

    /// The replica's transaction: the step of the row, the effect, cursor and head.
    fn apply(&mut self, model: &Model, home: Home, record: Record) {
        let took = match home {
            Home::Source => self.apply_at_source(model, record),
            Home::Target => self.apply_at_target(model, record),
        };
        if took.is_none() {
            self.fault = Some(Fault::ForeignWrite);
            return;
        }
        let copy = self.keys[record.key].copy_mut(home);
        let content = match (record.kind, copy.content) {
            (Kind::Born(_), content) => content.unwrap_or(0),
            (Kind::Write, Some(content)) => wrote(content, record.origin),
            (Kind::Write | Kind::Snapshot | Kind::Offered | Kind::Released | Kind::Skipped, _) => {
                record.content
            }
        };
        // An event carries the state after it too. A whole state that passes over nothing is the copy's own.
        let next = copy.known() && record.version == copy.cursor + 1;
        if content != record.content || next && record.kind.is_whole() && copy.content != Some(content) {
            self.fault = self.fault.or(Some(Fault::Mismatch));
        }
        (copy.content, copy.awaiting, copy.cursor) = (Some(content), false, copy.cursor.max(record.version));
        if copy.head < record.version {
            copy.head = record.version;
        } else if record.version > 1 && model.rules.gated {
            self.fault = self.fault.or(Some(Fault::TwoOwners));
        }
    }

    fn apply_at_source(&mut self, model: &Model, record: Record) -> Option<()> {
        let message = match record.kind {
            // Opens the key at both homes, whoever owns it.
            Kind::Born(_) => return Some(()),
            Kind::Released => source::Message::Released,
            Kind::Write | Kind::Snapshot | Kind::Offered | Kind::Skipped => source::Message::Foreign,
        };
        let before = self.keys[record.key].owner?.owner;
        let effect = model.step_source(self, record.key, message, record.epoch)?;
        let key = &self.keys[record.key];
        if key.owner?.owner != before && record.content != key.truth {
            self.fault = Some(Fault::LeftOut);
        }
        (effect == Effect::Apply).then_some(())
    }

    fn apply_at_target(&mut self, model: &Model, record: Record) -> Option<()> {
        let message = match record.kind {
            Kind::Born(Home::Target) => target::Message::Born,
            Kind::Offered => target::Message::Offered,
            Kind::Born(Home::Source) | Kind::Write | Kind::Snapshot | Kind::Released | Kind::Skipped => {
                target::Message::Foreign
            }
        };
        let effect = model.step_target(self, record.key, message, record.epoch)?;
        (effect == Effect::Apply).then_some(())
    }
}
