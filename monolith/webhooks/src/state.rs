//! How far a notice is.

use std::fmt;
use std::str::FromStr;

/// How far a notice is. The first four are open: custody is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// To be delivered, or to be tried again: its owner could not be asked.
    Waiting,
    /// The payment is not known yet. It is tried again, ever more rarely.
    Early,
    /// It tells of something that the books don't have. It is asked again now and then, for the books may catch up.
    Surprise,
    /// Tried for long enough: a person must look. It is asked again now and then, for its payment may come.
    Unplaced,
    /// The payment's owner has taken it.
    Applied,
    /// A kind or an object that this shop has nothing to do with.
    Ignored,
    /// A person decided that nothing is to be done.
    Dismissed,
}

/// A word that is no state.
#[derive(Debug, thiserror::Error)]
#[error("no such state; there are waiting, early, surprise, unplaced, applied, ignored and dismissed")]
pub struct UnknownState;

impl State {
    /// Every state, open ones first.
    pub const ALL: [Self; 7] = [
        Self::Waiting,
        Self::Early,
        Self::Surprise,
        Self::Unplaced,
        Self::Applied,
        Self::Ignored,
        Self::Dismissed,
    ];

    /// As it is stored and shown.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Early => "early",
            Self::Surprise => "surprise",
            Self::Unplaced => "unplaced",
            Self::Applied => "applied",
            Self::Ignored => "ignored",
            Self::Dismissed => "dismissed",
        }
    }

    /// Whether custody is still here.
    pub const fn is_open(self) -> bool {
        match self {
            Self::Waiting | Self::Early | Self::Surprise | Self::Unplaced => true,
            Self::Applied | Self::Ignored | Self::Dismissed => false,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl FromStr for State {
    type Err = UnknownState;

    fn from_str(word: &str) -> Result<Self, UnknownState> {
        Self::ALL.into_iter().find(|state| state.word() == word).ok_or(UnknownState)
    }
}
