//! The inbox's bounds.

use std::time::Duration;

pub use super::refill::RefillOptions;

/// Bounds of an [`super::Inbox`], each with its default.
#[derive(Debug, Clone)]
pub struct InboxOptions {
    /// Events that may wait in front of one handler's cursors (10,000); more, and the consumer waits
    /// instead, or with [`super::Inbox::refill`] keeps the highest version of each key and asks for the events later.
    pub parked_max: i32,
    /// Times an event is tried in a row when the database can't run it (5): lost connections, deadlocks, serialization
    /// failures. Then it is parked as `failed`, so that other keys go on.
    pub passing_max: u32,
    /// The first wait between those (20 ms), doubled each time.
    pub passing_delay: Duration,
    /// How often parked events whose time is up are tried again (250 ms).
    pub sweep_every: Duration,
    /// Keys swept at a time (100).
    pub sweep_max: i32,
    /// Parked events of one key applied in one go (500).
    pub drain_max: u32,
    /// Times a handler may refuse an event (8): then it becomes a dead letter, and its key waits for an operator.
    pub attempts_max: i32,
    /// The first wait before an event that its handler refused is tried again (500 ms), doubled up to `retry_delay_max`.
    pub retry_delay_min: Duration,
    /// The longest wait before it is tried again (1 min).
    pub retry_delay_max: Duration,
    /// The longest wait for a database or broker that is down, between two tries (2 s).
    pub outage_delay_max: Duration,
    /// Bounds of refilling from a log.
    pub refill: RefillOptions,
}

impl Default for InboxOptions {
    fn default() -> Self {
        Self {
            parked_max: 10_000,
            passing_max: 5,
            passing_delay: Duration::from_millis(20),
            sweep_every: Duration::from_millis(250),
            sweep_max: 100,
            drain_max: 500,
            attempts_max: 8,
            retry_delay_min: Duration::from_millis(500),
            retry_delay_max: Duration::from_secs(60),
            outage_delay_max: Duration::from_secs(2),
            refill: RefillOptions::default(),
        }
    }
}
