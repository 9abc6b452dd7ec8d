//! The relay's bounds.

use std::time::Duration;

/// Bounds of a [`super::Relay`], each with its default.
#[derive(Debug, Clone)]
pub struct RelayOptions {
    /// Records in flight at once (512).
    pub in_flight_max: usize,
    /// Payload bytes in flight at once (8 MiB).
    pub in_flight_bytes_max: usize,
    /// Rows taken of one bucket by one claim (16), so that a busy bucket leaves room for the others.
    pub per_bucket_max: i64,
    /// How often a relay looks for refused rows whose wait is over while there are none (500 ms). They are tried one by one.
    pub refused_every: Duration,
    /// The shortest wait between two claims (1 ms).
    pub poll_min: Duration,
    /// The longest, reached by doubling while nothing is found (50 ms).
    pub poll_max: Duration,
    /// How long a lease on buckets holds without renewal (10 s); renewed three times in that span.
    pub lease_ttl: Duration,
    /// How often the floors of the scan are read anew, from each bucket's beginning (1 s). A row that commits so late that
    /// it lies under its floor waits at most this long.
    pub floor_every: Duration,
    /// Positions kept in view below each floor (1,000), for transactions that overlap.
    pub floor_slack: i64,
    /// The first wait after an outage of the broker (100 ms), doubled up to `outage_delay_max`.
    pub outage_delay_min: Duration,
    /// The longest wait after an outage, of the broker or the database (2 s).
    pub outage_delay_max: Duration,
    /// The first wait before a refused record is tried again (1 s), doubled up to `refusal_delay_max`.
    pub refusal_delay_min: Duration,
    /// The longest wait before a refused record is tried again (1 min).
    pub refusal_delay_max: Duration,
    /// How long a stopping relay waits for reports of what it sent (5 s). What is not reported is sent again by the next.
    pub drain_timeout: Duration,
    /// Days of log partitions kept ahead (14).
    pub partition_days: i32,
    /// How often that is looked after (1 h).
    pub partition_every: Duration,
    /// How soon again after a failure (1 min).
    pub partition_retry: Duration,
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self {
            in_flight_max: 512,
            in_flight_bytes_max: 8 << 20,
            per_bucket_max: 16,
            refused_every: Duration::from_millis(500),
            poll_min: Duration::from_millis(1),
            poll_max: Duration::from_millis(50),
            lease_ttl: Duration::from_secs(10),
            floor_every: Duration::from_secs(1),
            floor_slack: 1_000,
            outage_delay_min: Duration::from_millis(100),
            outage_delay_max: Duration::from_secs(2),
            refusal_delay_min: Duration::from_secs(1),
            refusal_delay_max: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(5),
            partition_days: 14,
            partition_every: Duration::from_secs(3600),
            partition_retry: Duration::from_secs(60),
        }
    }
}
