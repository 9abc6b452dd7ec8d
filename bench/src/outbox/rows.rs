//! The rows of the page, one file each.

pub(crate) mod chaos;
pub(crate) mod drain;
pub(crate) mod inbox;
pub(crate) mod latency;
pub(crate) mod peer_drain;
pub(crate) mod peer_kills;
pub(crate) mod peer_latency;
pub(crate) mod peer_writers;
pub(crate) mod publish;

/// Keys of the even load and of the fewer ones, and the hot ones.
pub(crate) const KEYS: [i64; 3] = [10_000, 1_000, 8];

/// Hot keys wait for one round trip an event: a tenth of the backlog tells their rate as well.
pub(crate) fn backlog(events: u64, keys: i64) -> u64 {
    if keys < 100 { events / 10 } else { events }
}
