//! The conditions of a step, and the answers when one does not hold.

use std::fmt;

use crate::Epoch;

/// What a home finds out about a key before a step, in later statements of the transaction that locked the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Facts {
    /// Nothing is under way: no open write, no intent without an outcome, nothing parked or dead.
    pub quiet: bool,
    /// This home's copy of the key is whole: it was started, and awaits no snapshot.
    pub known: bool,
}

/// A condition of a step. Epochs are compared with the row's; those are the compare of a compare-and-swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Guard {
    /// The message names the row's epoch.
    SameEpoch,
    /// The message names another one.
    OtherEpoch,
    /// The message names a higher epoch than the row's, and than that of a recall under way.
    NewerEpoch,
    /// The message names at least the epoch of the recall under way.
    RecallOrNewer,
    /// [`Facts::quiet`].
    Quiet,
    /// Not [`Facts::quiet`].
    Busy,
    /// [`Facts::known`].
    Known,
}

/// Why there is no step. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The other home may write this key.
    NotOwner,
    /// The key is between its homes: try again, outside the transaction.
    Moving,
    /// The key, or what the message speaks of, has not arrived here: try again.
    NotYet,
    /// Something is under way: try again.
    Busy,
    /// The message is about an earlier owner: drop it.
    Stale,
    /// A record of the other home for a key that is not its to write. An alarm: two owners wrote.
    ForeignWrite,
}

impl Guard {
    /// Whether the condition holds of a message that names `epoch`, for a row at `at` with a recall under way at `recall`.
    pub(super) fn check(
        self,
        epoch: Epoch,
        at: Epoch,
        recall: Option<Epoch>,
        facts: Facts,
    ) -> Result<(), Refusal> {
        let highest = recall.map_or(at, |recall| recall.max(at));
        let (holds, refusal) = match self {
            Self::SameEpoch => (epoch == at, if epoch > at { Refusal::NotYet } else { Refusal::Stale }),
            Self::OtherEpoch => (epoch != at, Refusal::Stale),
            Self::NewerEpoch => (epoch > highest, Refusal::Stale),
            Self::RecallOrNewer => (epoch >= highest, Refusal::Stale),
            Self::Quiet => (facts.quiet, Refusal::Busy),
            Self::Busy => (!facts.quiet, Refusal::NotYet),
            Self::Known => (facts.known, Refusal::NotYet),
        };
        if holds { Ok(()) } else { Err(refusal) }
    }

    /// The refusal of the first of these that does not hold.
    pub(super) fn check_all(
        guards: &[Self],
        epoch: Epoch,
        at: Epoch,
        recall: Option<Epoch>,
        facts: Facts,
    ) -> Result<(), Refusal> {
        guards.iter().try_for_each(|guard| guard.check(epoch, at, recall, facts))
    }
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SameEpoch => "its epoch is the row's",
            Self::OtherEpoch => "its epoch is not the row's",
            Self::NewerEpoch => "its epoch is above all of the row's",
            Self::RecallOrNewer => "its epoch is at least `recall_epoch`",
            Self::Quiet => "quiet",
            Self::Busy => "not quiet",
            Self::Known => "the copy is whole",
        })
    }
}
