//! The target's row: what the target may do with a key.

mod step;

use super::{Facts, Guard, Refusal};
use crate::Epoch;

pub use step::{Message, STEPS, Sets, Step};

/// A row of `strangler.authority`. A key of the source that was never offered has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Row {
    /// The highest epoch obeyed: of a birth, an offer, a grant, or a recall that was carried out. It never falls.
    pub epoch: Epoch,
    /// Whether the target owns the key.
    pub writable: bool,
    /// Recalled at this epoch, but not quiet yet.
    pub recall_epoch: Option<Epoch>,
}

/// What a row comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// No row.
    Absent,
    /// The source's to write.
    Fenced,
    /// The target's to write.
    Writable,
    /// The target's to end what it has begun; nothing new begins.
    Recalled,
}

impl Row {
    /// What a row, or its absence, comes to.
    pub const fn standing(row: Option<Self>) -> Standing {
        match row {
            None => Standing::Absent,
            Some(Self { writable: false, .. }) => Standing::Fenced,
            Some(Self { recall_epoch: None, .. }) => Standing::Writable,
            Some(Self { recall_epoch: Some(_), .. }) => Standing::Recalled,
        }
    }

    /// The row after a message, and the step that it took.
    ///
    /// # Errors
    /// When no step fits. Nothing changes.
    pub fn step(
        row: Option<Self>,
        message: Message,
        epoch: Epoch,
        facts: Facts,
    ) -> Result<(Option<Self>, &'static Step), Refusal> {
        let standing = Self::standing(row);
        let at = row.map_or(Epoch(0), |row| row.epoch);
        let recall = row.and_then(|row| row.recall_epoch);
        let mut refusal = None;
        for step in STEPS.iter().filter(|step| step.from == standing && step.message == message) {
            match Guard::check_all(step.guards, epoch, at, recall, facts) {
                Ok(()) => return Ok((Self::after(row, step, epoch), step)),
                Err(first) => refusal = refusal.or(Some(first)),
            }
        }
        Err(refusal.unwrap_or_else(|| refuse(standing, message)))
    }

    /// Whether the target may begin something new with this key.
    pub fn may_write(row: Option<Self>) -> bool {
        Self::step(row, Message::Intent, Epoch(0), Facts { quiet: false, known: true }).is_ok()
    }

    /// Whether the target may end what it has begun.
    pub fn may_settle(row: Option<Self>) -> bool {
        Self::step(row, Message::Outcome, Epoch(0), Facts { quiet: false, known: true }).is_ok()
    }

    fn after(row: Option<Self>, step: &Step, epoch: Epoch) -> Option<Self> {
        let before = row.unwrap_or(Self { epoch, writable: false, recall_epoch: None });
        let writable = match step.to {
            Standing::Absent => return None,
            Standing::Fenced => false,
            Standing::Writable | Standing::Recalled => true,
        };
        Some(match step.sets {
            Sets::Nothing => Self { writable, ..before },
            Sets::Epoch => Self { writable, epoch, recall_epoch: None },
            Sets::RecallEpoch => Self { writable, recall_epoch: Some(epoch), ..before },
        })
    }
}

/// The answer to a message that has no step from here.
const fn refuse(standing: Standing, message: Message) -> Refusal {
    match (message, standing) {
        (Message::Offered | Message::Foreign | Message::Born, _) => Refusal::ForeignWrite,
        (Message::Intent | Message::Snapshot, Standing::Recalled) => Refusal::Moving,
        (Message::Intent | Message::Outcome | Message::Snapshot, _) => Refusal::NotOwner,
        (Message::Empty, _) => Refusal::Busy,
        (_, Standing::Absent) => Refusal::NotYet,
        (Message::Ready | Message::Grant | Message::Recall, _) => Refusal::Stale,
    }
}
