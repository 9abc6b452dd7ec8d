//! The two homes, and what is stored about a key's owner.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Error;

/// One of the two places where a key may live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Home {
    /// The module in the monolith.
    Source,
    /// The extracted service.
    Target,
}

/// Whether a key stays where it is. Only a settled key is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Its owner writes it.
    Settled,
    /// On its way from the source to the target.
    Moving,
    /// On its way from the target back to the source.
    Recalling,
}

/// A number that grows with each change of a key's owner or phase; 1 at birth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub i64);

/// Who owns a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ownership {
    /// Where it lives, or, when it is not settled, where it lived last.
    pub home: Home,
    /// Whether it stays there.
    pub phase: Phase,
    /// Since which change.
    pub epoch: Epoch,
}

impl Epoch {
    /// The epoch of a birth.
    pub const BIRTH: Self = Self(1);

    /// The number.
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Home {
    /// Its name, as stored: `source` or `target`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Target => "target",
        }
    }
}

impl Phase {
    /// Its name, as stored: `settled`, `moving` or `recalling`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Moving => "moving",
            Self::Recalling => "recalling",
        }
    }
}

impl fmt::Display for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Home {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "source" => Ok(Self::Source),
            "target" => Ok(Self::Target),
            _ => Err(Error::stored("owner", text)),
        }
    }
}

impl FromStr for Phase {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "settled" => Ok(Self::Settled),
            "moving" => Ok(Self::Moving),
            "recalling" => Ok(Self::Recalling),
            _ => Err(Error::stored("phase", text)),
        }
    }
}
