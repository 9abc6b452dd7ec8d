//! The stages of a migration.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Error, Home};

/// The policy of a migration, in the order in which it is walked. Ownership is not a stage's: it is stored per key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// All is at the source; the target need not exist. A key without an owner row is the source's.
    Local,
    /// Each key has an owner row, still the source's. The target follows the stream.
    Following,
    /// The target's answers and decisions are compared; nobody sees them.
    Shadowing,
    /// Reads of a percent of all keys, and of named tenants, go to the target.
    Reading,
    /// New keys are born at the target, for a percent of all keys and for named tenants.
    Ramping,
    /// All keys are born at the target, old ones are handed over.
    Primary,
    /// The source's copy is retired: its role has lost its rights. There is no way back by a step.
    Sealed,
    /// The source's code and tables are gone.
    Removed,
}

impl Stage {
    /// All of them, in order.
    pub const ALL: [Self; 8] = [
        Self::Local,
        Self::Following,
        Self::Shadowing,
        Self::Reading,
        Self::Ramping,
        Self::Primary,
        Self::Sealed,
        Self::Removed,
    ];

    /// The one after it; none after the last.
    pub fn next(self) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| *stage > self)
    }

    /// Whether it has a cohort: a percent of all keys, and tenants.
    pub const fn has_cohort(self) -> bool {
        match self {
            Self::Reading | Self::Ramping => true,
            Self::Local
            | Self::Following
            | Self::Shadowing
            | Self::Primary
            | Self::Sealed
            | Self::Removed => false,
        }
    }

    /// Whether a home publishes heartbeats in it: while it has the feed that begins there, and the stage before, whose gates must hear
    /// them.
    pub(crate) fn beats(self, home: Home) -> bool {
        match self {
            Self::Local | Self::Sealed | Self::Removed => false,
            Self::Following | Self::Shadowing => home == Home::Source,
            Self::Reading | Self::Ramping | Self::Primary => true,
        }
    }

    /// Whether it is entered only with the approval of two people: nothing leads back from it.
    pub const fn needs_approval(self) -> bool {
        match self {
            Self::Sealed | Self::Removed => true,
            Self::Local
            | Self::Following
            | Self::Shadowing
            | Self::Reading
            | Self::Ramping
            | Self::Primary => false,
        }
    }

    /// Its name, as stored and as written on a command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Following => "following",
            Self::Shadowing => "shadowing",
            Self::Reading => "reading",
            Self::Ramping => "ramping",
            Self::Primary => "primary",
            Self::Sealed => "sealed",
            Self::Removed => "removed",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Stage {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|stage| stage.name() == text).ok_or_else(|| Error::Invalid {
            field: "to",
            reason: format!("{text:?} is no stage; they are {}", Self::ALL.map(Self::name).join(", ")),
        })
    }
}
