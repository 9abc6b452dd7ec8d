//! Heartbeats: a feed is known to be alive though nobody writes a key.

use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::gate::millis;

/// After so many intervals without a heartbeat a feed stands still.
pub(crate) const INTERVALS_MAX: u32 = 3;

/// The last heartbeat of the other home that a home's replica has applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// Its number at the home that sent it: 1, 2, 3 ...
    pub sequence: i64,
    /// When it was published, by the clock of the sender's database.
    pub sent_at: OffsetDateTime,
    /// When it was applied, by the clock of the receiver's database. The two clocks may differ: no gate compares them.
    pub received_at: OffsetDateTime,
    /// How long ago that was when the question was answered, by the receiver's clock.
    pub age: Duration,
}

/// What a home has heard of the other one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Heard {
    /// The domain sends no heartbeats: its feeds are judged by keys alone.
    #[default]
    Unsent,
    /// None has come yet.
    Nothing,
    /// The last one.
    Last(Heartbeat),
}

impl Heard {
    /// The last one, if there is one.
    pub(crate) fn last(&self) -> Option<&Heartbeat> {
        match self {
            Self::Last(heartbeat) => Some(heartbeat),
            Self::Unsent | Self::Nothing => None,
        }
    }

    /// As the evidence of a gate shows it.
    pub(crate) fn evidence(&self) -> Value {
        match self {
            Self::Unsent => json!("unsent"),
            Self::Nothing => Value::Null,
            Self::Last(Heartbeat { sequence, age, .. }) => {
                json!({ "sequence": sequence, "age_ms": millis(*age) })
            }
        }
    }
}
