//! The inbox's bounds.

use std::time::Duration;

pub use super::refill::RefillOptions;

/// Bounds of an [`super::Inbox`], each with its default.
#[derive(Debug, Clone)]
pub struct InboxOptions {
    /// Transactions at once (8), each on a connection of its own; never more than half of the pool's connections.
    pub concurrency: usize,
    /// Events in one transaction (500). Only what is there is taken together; a lone event commits at once.
    pub batch_max: usize,
    /// Records read but not dealt with (8,000); with more, the inbox stops to read.
    pub buffer_max: usize,
    /// Their payloads' bytes (32 MiB), and one record more.
    pub buffer_bytes_max: usize,
    /// How long the inbox may be full before it tells the source to bring nothing more (10 s), and asks it on: a member that
    /// does not ask is thrown out of its group, and until then keeps the others from sharing.
    pub hold_after: Duration,
    /// How long an event's transaction waits for a row lock (5 s); longer, and it is tried again like after a deadlock.
    pub lock_timeout: Duration,
    /// How long one of its statements may take (30 s). Longer, and it is refused. A second later without an answer, to this or
    /// to any other question of the inbox's, the connection is closed, and the event is tried again on another one.
    pub statement_timeout: Duration,
    /// How long a handler may take for one event, or for one batch (60 s). An event that takes longer is refused; a batch's are
    /// tried one by one.
    pub effect_timeout: Duration,
    /// Refusals of one event by its handler (8), then it becomes a dead letter and its key waits for an operator.
    pub attempts_max: i32,
    /// Events that may wait in front of one handler's cursors (10,000); more, and the consumer waits
    /// instead, or with [`super::Inbox::refill`] keeps the highest version of each key, of ten times as many keys at most, and
    /// asks for the events later.
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
    /// The first wait before an event that its handler refused is tried again (500 ms), doubled up to `retry_delay_max`.
    pub retry_delay_min: Duration,
    /// The longest wait before it is tried again (1 min).
    pub retry_delay_max: Duration,
    /// The longest wait for a database or broker that is down, between two tries (2 s).
    pub outage_delay_max: Duration,
    /// Bounds of refilling from a log.
    pub refill: RefillOptions,
    /// How often cursors are compared with the heads of this database (1 min), and old notes are forgotten.
    pub compare_every: Duration,
    /// How far behind a head a cursor may be (10 min) before that is an alarm.
    pub tail_after: Duration,
    /// Heads compared in one statement (1,000).
    pub compare_max: i32,
    /// How long a replica remembers which event it applied as which version (7 days).
    pub remember_for: Duration,
}

impl Default for InboxOptions {
    fn default() -> Self {
        Self {
            concurrency: 8,
            batch_max: 500,
            buffer_max: 8_000,
            buffer_bytes_max: 32 << 20,
            hold_after: Duration::from_secs(10),
            lock_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            effect_timeout: Duration::from_secs(60),
            attempts_max: 8,
            parked_max: 10_000,
            passing_max: 5,
            passing_delay: Duration::from_millis(20),
            sweep_every: Duration::from_millis(250),
            sweep_max: 100,
            drain_max: 500,
            retry_delay_min: Duration::from_millis(500),
            retry_delay_max: Duration::from_secs(60),
            outage_delay_max: Duration::from_secs(2),
            refill: RefillOptions::default(),
            compare_every: Duration::from_secs(60),
            tail_after: Duration::from_secs(600),
            compare_max: 1_000,
            remember_for: Duration::from_secs(7 * 24 * 3600),
        }
    }
}
