//! What becomes of an event.

use uuid::Uuid;

use super::verdict::chain;
use crate::{Error, handler::Effect};

/// How an event was dealt with. Each is final for the record that brought it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dealt {
    Applied,
    /// A kind without a handler.
    Ignored,
    /// A replica met an event of its own home.
    Own,
    Duplicate,
    Conflict,
    /// It waits in the database, for an earlier version or for its handler.
    Parked,
    /// It waits already: a repeat of an event that is parked or dead.
    Again,
    /// It was refused too often, or can't be read: it waits for an operator.
    Dead,
    /// A replica met the key in the middle; a snapshot will carry this event's effect.
    Awaiting,
    /// It was refused, and an operator discarded it.
    Refused,
}

impl Dealt {
    /// Its name in counts.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Ignored => "ignored",
            Self::Own => "own",
            Self::Duplicate | Self::Again => "duplicate",
            Self::Conflict => "conflict",
            Self::Parked => "parked",
            Self::Dead => "dead",
            Self::Awaiting => "awaiting",
            Self::Refused => "refused",
        }
    }
}

impl From<Effect> for Dealt {
    fn from(effect: Effect) -> Self {
        match effect {
            Effect::Applied => Self::Applied,
            Effect::Ignored => Self::Ignored,
        }
    }
}

/// One attempt at an event.
pub(crate) enum Attempt {
    Dealt(Dealt, Waiting),
    /// An earlier version is missing.
    Early,
    /// The handler's verdict.
    Refused(String),
    /// The payload is not what the handler takes; to try again would not help.
    Hopeless(String),
    /// The same version was applied with another id, which is given.
    Conflict(Option<Uuid>, Waiting),
    /// The database could not run it.
    Passing(String),
    /// A replica's program does not know the kind: a newer one will.
    Unknown(String),
}

impl Attempt {
    /// The verdict on a record, when the gate has one.
    pub(super) fn verdict(&self) -> Dealt {
        match self {
            Self::Dealt(dealt, _) => *dealt,
            Self::Conflict(..) => Dealt::Conflict,
            Self::Early | Self::Refused(_) | Self::Hopeless(_) | Self::Passing(_) | Self::Unknown(_) => {
                Dealt::Parked
            }
        }
    }

    /// The same, when not even the rollback was answered: the handler may have failed because its database fell silent, and
    /// that is no verdict.
    pub(super) fn unanswered(self, silence: &Error) -> Self {
        match self {
            Self::Refused(error) => Self::Passing(format!("{error}; {}", chain(silence))),
            other => other,
        }
    }
}

/// Whether events of this key are parked.
pub(crate) type Waiting = bool;

/// Where an event comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    /// From the log.
    Read,
    /// From `outbox.parked`.
    Kept,
    /// From there too: the filler in the place of an event that an operator discarded.
    Discarded,
}
