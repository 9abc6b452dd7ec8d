//! Events of the target's log, on the wire.

use prost::Message as _;
use tonic::Status;

use super::v1::{Header, LoggedEvent, RefillReply, RefillRequest};
use crate::{Logged, Missing};

/// The most bytes of events in an answer. A client of gRPC takes 4 MiB: the rest is more than 1,000 events need for being in a list.
const PAGE_BYTES_MAX: usize = 3 * 1024 * 1024;

pub(super) fn request(missing: Missing<'_>) -> RefillRequest {
    let Missing { topic, key, after, until, limit } = missing;
    RefillRequest { topic: topic.to_owned(), key: key.to_owned(), after, until, limit }
}

pub(super) fn missing(request: &RefillRequest) -> Missing<'_> {
    let RefillRequest { topic, key, after, until, limit } = request;
    Missing { topic, key, after: *after, until: *until, limit: *limit }
}

/// As many of the events as fit, from the first one on.
pub(super) fn reply(events: Vec<Logged>, limit: i64) -> Result<RefillReply, Status> {
    let mut bytes = 0_usize;
    let mut page = Vec::new();
    for event in events.into_iter().take(usize::try_from(limit).unwrap_or(0)) {
        let event = written(event);
        let size = event.encoded_len();
        bytes = bytes.saturating_add(size);
        if bytes <= PAGE_BYTES_MAX {
            page.push(event);
        } else if page.is_empty() {
            return Err(Status::out_of_range(format!(
                "version {} alone has {size} bytes, and an answer at most {PAGE_BYTES_MAX}: have its owner publish the key's state",
                event.version
            )));
        } else {
            break;
        }
    }
    Ok(RefillReply { events: page })
}

pub(super) fn events(reply: RefillReply) -> Vec<Logged> {
    let read = |LoggedEvent { topic, key, version, headers, payload }| {
        let headers = headers.into_iter().map(|Header { name, value }| (name, value)).collect();
        Logged { topic, key, version, headers, payload }
    };
    reply.events.into_iter().map(read).collect()
}

fn written(event: Logged) -> LoggedEvent {
    let Logged { topic, key, version, headers, payload } = event;
    let headers = headers.into_iter().map(|(name, value)| Header { name, value }).collect();
    LoggedEvent { topic, key, version, headers, payload }
}

#[cfg(test)]
mod tests {
    use super::{PAGE_BYTES_MAX, events, missing, reply, request};
    use crate::{Logged, Missing};

    fn event(version: i64, bytes: usize) -> Logged {
        Logged {
            topic: "prices.v1".to_owned(),
            key: "k".to_owned(),
            version,
            headers: vec![("tenant".to_owned(), "acme".to_owned())],
            payload: vec![7; bytes],
        }
    }

    #[test]
    fn a_question_and_its_events_are_read_as_they_were_written() {
        let asked = Missing { topic: "prices.v1", key: "k", after: 1, until: 3, limit: 9 };
        assert_eq!(missing(&request(asked)), asked);
        let known = vec![event(2, 0), event(3, 9)];
        assert_eq!(events(reply(known.clone(), 9).unwrap()), known);
        assert_eq!(events(reply(known.clone(), 1).unwrap()), known[..1]);
    }

    #[test]
    fn an_answer_ends_where_the_next_event_would_not_fit() {
        let third = PAGE_BYTES_MAX / 3;
        let some = vec![event(1, third), event(2, third), event(3, third), event(4, 1)];
        assert_eq!(events(reply(some.clone(), 9).unwrap()), some[..2]);
        let large = reply(vec![event(1, PAGE_BYTES_MAX), event(2, 1)], 9).unwrap_err();
        assert_eq!(large.code(), tonic::Code::OutOfRange);
        assert!(large.message().contains("version 1 alone"), "{large}");
    }
}
