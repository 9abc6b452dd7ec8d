//! The time, as the journal, Stripe's objects and the settings have it.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub(crate) fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    since_1970(now())
}

/// A moment of the journal in milliseconds since 1970; 0 when it can't be read.
pub(crate) fn journaled_ms(at: &str) -> i64 {
    OffsetDateTime::parse(at, &Rfc3339).map_or(0, since_1970)
}

/// A span in whole milliseconds.
pub(crate) fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

fn since_1970(moment: OffsetDateTime) -> i64 {
    i64::try_from(moment.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}
