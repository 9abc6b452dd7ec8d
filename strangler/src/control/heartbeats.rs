//! Heartbeats, on the wire.

use std::time::Duration;

use time::OffsetDateTime;

use super::v1::{HeardReply, Heartbeat as Wire};
use crate::{BoxError, Heard, Heartbeat};

pub(super) fn reply(heard: Heard) -> HeardReply {
    match heard {
        Heard::Unsent => HeardReply { unsent: true, last: None },
        Heard::Nothing => HeardReply { unsent: false, last: None },
        Heard::Last(Heartbeat { sequence, sent_at, received_at, age }) => {
            let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            let (sent_at_ms, received_at_ms) = (millis(sent_at), millis(received_at));
            HeardReply { unsent: false, last: Some(Wire { sequence, sent_at_ms, received_at_ms, age_ms }) }
        }
    }
}

pub(super) fn heard(reply: HeardReply) -> Result<Heard, BoxError> {
    Ok(match (reply.unsent, reply.last) {
        (true, _) => Heard::Unsent,
        (false, None) => Heard::Nothing,
        (false, Some(Wire { sequence, sent_at_ms, received_at_ms, age_ms })) => Heard::Last(Heartbeat {
            sequence,
            sent_at: time_of(sent_at_ms)?,
            received_at: time_of(received_at_ms)?,
            age: Duration::from_millis(age_ms),
        }),
    })
}

/// A time outside of 64 bits of milliseconds can't come from a database.
fn millis(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or_default()
}

fn time_of(ms: i64) -> Result<OffsetDateTime, BoxError> {
    Ok(OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use time::OffsetDateTime;

    use super::{heard, reply};
    use crate::control::v1::{HeardReply, Heartbeat as Wire};
    use crate::{Heard, Heartbeat};

    #[test]
    fn what_was_heard_is_read_as_it_was_written() {
        let last = Heartbeat {
            sequence: 7,
            sent_at: OffsetDateTime::from_unix_timestamp(1_760_000_000).unwrap(),
            received_at: OffsetDateTime::from_unix_timestamp(1_760_000_001).unwrap(),
            age: Duration::from_millis(1_234),
        };
        for known in [Heard::Unsent, Heard::Nothing, Heard::Last(last)] {
            assert_eq!(heard(reply(known.clone())).unwrap(), known);
        }
    }

    #[test]
    fn an_empty_answer_passes_for_no_heartbeat_and_a_time_out_of_range_is_an_error() {
        assert_eq!(heard(HeardReply::default()).unwrap(), Heard::Nothing);
        let last = Some(Wire { sent_at_ms: i64::MAX, ..Wire::default() });
        assert!(heard(HeardReply { unsent: false, last }).is_err());
    }
}
