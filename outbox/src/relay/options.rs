//! The relay's bounds.

use std::time::Duration;

/// Bounds of a [`super::Relay`], each with its default.
#[derive(Debug, Clone)]
pub struct RelayOptions {
    /// Records in flight at once (1,024).
    pub in_flight_max: usize,
    /// Payload bytes in flight at once (8 MiB).
    pub in_flight_bytes_max: usize,
    /// Records of one key in flight at once (1). More than one lifts the bound that a broker's round trip sets to a busy key,
    /// at a price: when one of them is refused, or lost and sent again, those behind it may be in the log before it; and a key
    /// with a refused record is not stopped, but parked by each consumer up to its bounds. Only for topics all of whose
    /// consumers have a gate that waits for the version before, as [`crate::Inbox`] has.
    pub pipelined: usize,
    /// Waiting rows kept in memory (50,000), about 100 bytes each, so that they are not read again.
    pub window_max: usize,
    /// Rows read by one statement (8,192).
    pub page_rows: usize,
    /// Events fetched by one statement (512).
    pub fetch_rows: usize,
    /// Connections to the database (6), of the relay's own. It needs three to overlap its work.
    pub connections_max: u32,
    /// How long nothing may be heard of a lane with records in flight until it gets no more (2 s). What it holds then no
    /// longer counts against the others' room.
    pub stall_after: Duration,
    /// How often a relay looks for refused rows whose wait is over while there are none (500 ms). They are tried one by one.
    pub refused_every: Duration,
    /// How often a record may be refused until it is in quarantine (10). Outages don't count, nor does a topic that is missing
    /// or may not be written to.
    pub attempts_max: i32,
    /// How long a question to the database may take (30 s). The server ends it then; a connection that says nothing a second
    /// later is given up.
    pub query_timeout: Duration,
    /// The shortest wait between two polls (1 ms).
    pub poll_min: Duration,
    /// The longest, reached by doubling while nothing is found (50 ms).
    pub poll_max: Duration,
    /// How long a poll looks for a position that was drawn and is not there yet (2 s): of two transactions that overlap, the
    /// one with the lower position may commit last. A row that commits later than that is found by passes over what was
    /// read: about as long again after its commit as it was open, and ..
    pub overlap: Duration,
    /// .. after at most this time (1 s), or twenty times as long as it takes to look through the whole queue.
    pub late_every: Duration,
    /// How long a lease on buckets holds without renewal (10 s); renewed three times in that span. Relays may differ in it.
    pub lease_ttl: Duration,
    /// The first wait after an outage of the broker (100 ms), doubled up to `outage_delay_max`.
    pub outage_delay_min: Duration,
    /// The longest wait after an outage, of the broker or the database (2 s).
    pub outage_delay_max: Duration,
    /// The first wait before a refused record is tried again (1 s), doubled up to `refusal_delay_max`.
    pub refusal_delay_min: Duration,
    /// The longest wait before a refused record is tried again (1 min).
    pub refusal_delay_max: Duration,
    /// How long a stopping relay waits for reports of what it sent (5 s), and then once more for the database to take its leases
    /// back. What is not reported is sent again by the next.
    pub drain_timeout: Duration,
    /// How often the topics are looked after, for [`super::Relay::status`] (5 s).
    pub status_every: Duration,
    /// Whether `outbox.sent` keeps when deliveries were reported (yes), for [`crate::history()`]: one row for each batch.
    pub note_deliveries: bool,
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self {
            in_flight_max: 1_024,
            in_flight_bytes_max: 8 << 20,
            pipelined: 1,
            window_max: 50_000,
            page_rows: 8_192,
            fetch_rows: 512,
            connections_max: 6,
            stall_after: Duration::from_secs(2),
            refused_every: Duration::from_millis(500),
            attempts_max: 10,
            query_timeout: Duration::from_secs(30),
            poll_min: Duration::from_millis(1),
            poll_max: Duration::from_millis(50),
            overlap: Duration::from_secs(2),
            late_every: Duration::from_secs(1),
            lease_ttl: Duration::from_secs(10),
            outage_delay_min: Duration::from_millis(100),
            outage_delay_max: Duration::from_secs(2),
            refusal_delay_min: Duration::from_secs(1),
            refusal_delay_max: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(5),
            status_every: Duration::from_secs(5),
            note_deliveries: true,
        }
    }
}
