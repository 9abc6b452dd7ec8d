//! What travels beside a payload: CloudEvents 1.0 headers in the binary mode of its Kafka binding, and our own.

use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use crate::{Headers, Message, Meta, Record, store::Logged};

pub(crate) use crate::quarantine::SKIPPED;

/// The most bytes of a kind, as `outbox.publish` has it. A dead letter is found by its kind, and an index has its limits.
const KIND_MAX: usize = 200;

/// A record whose headers were read. Keeps them all, so that a parked event can be read again later.
#[derive(Debug, Clone)]
pub(crate) struct Envelope {
    pub(crate) topic: String,
    pub(crate) key: String,
    pub(crate) version: i64,
    pub(crate) id: Uuid,
    pub(crate) kind: String,
    pub(crate) origin: String,
    pub(crate) time: OffsetDateTime,
    pub(crate) payload: Vec<u8>,
    pub(crate) headers: Headers,
}

impl Envelope {
    /// Reads a record. The error says which header is missing or malformed.
    pub(crate) fn of(message: &Message) -> Result<Self, String> {
        let key = message.key.as_deref().ok_or("the record has no key")?;
        let key = std::str::from_utf8(key).map_err(|_| "the key is not UTF-8")?;
        let headers = message.headers.iter().cloned().collect();
        Self::read(message.topic.clone(), key.to_owned(), message.payload.clone(), headers)
    }

    /// Reads a record from its parts.
    pub(crate) fn read(
        topic: String,
        key: String,
        payload: Vec<u8>,
        headers: Headers,
    ) -> Result<Self, String> {
        if key.is_empty() || key.len() > 255 {
            return Err(format!("the key has {} bytes; 1 to 255 are allowed", key.len()));
        }
        if key.contains('\0')
            || headers.iter().any(|(name, value)| name.contains('\0') || value.contains('\0'))
        {
            return Err("the key or a header contains NUL".into());
        }
        let version = parse(&headers, "banyan-version", |v| v.parse().ok().filter(|v: &i64| *v >= 1))?;
        let id = parse(&headers, "ce_id", |v| v.parse().ok())?;
        let time = parse(&headers, "ce_time", |v| OffsetDateTime::parse(v, &Rfc3339).ok())?;
        let kind = parse(&headers, "ce_type", |v| Some(v.to_owned()))?;
        if kind.is_empty() || kind.len() > KIND_MAX {
            return Err(format!("header ce_type has {} bytes; 1 to {KIND_MAX} are allowed", kind.len()));
        }
        let origin = parse(&headers, "banyan-origin", |v| Some(v.to_owned()))?;
        Ok(Self { topic, key, version, id, kind, origin, time, payload, headers })
    }

    /// Whether this is a filler in the place of an event that was given up.
    pub(crate) fn is_skipped(&self) -> bool {
        self.kind == SKIPPED
    }

    /// Whether it comes from a replay to Kafka.
    pub(crate) fn is_replayed(&self) -> bool {
        self.headers.get(crate::replay::HEADER).is_some()
    }

    pub(crate) fn meta(&self) -> Meta {
        Meta {
            topic: self.topic.clone(),
            key: self.key.clone(),
            version: self.version,
            id: self.id,
            kind: self.kind.clone(),
            origin: self.origin.clone(),
            time: self.time,
            headers: self.headers.clone(),
        }
    }
}

fn parse<T>(headers: &Headers, name: &str, read: impl Fn(&str) -> Option<T>) -> Result<T, String> {
    let value = headers.get(name).ok_or_else(|| format!("header {name} is missing"))?;
    read(value).ok_or_else(|| {
        format!("header {name} is malformed: {:?}", value.chars().take(80).collect::<String>())
    })
}

/// The record of an event in the log.
pub(crate) fn record(event: Logged) -> Record {
    let mut headers = event.headers.0;
    headers.drop_own();
    // RFC 3339 always can express a timestamp of PostgreSQL's between the years 1 and 9999.
    let time = event.created_at.format(&Rfc3339).unwrap_or_default();
    headers
        .set("ce_specversion", "1.0")
        .set("ce_id", event.id.to_string())
        .set("ce_source", event.origin.as_str())
        .set("ce_type", event.kind)
        .set("ce_time", time)
        .set("ce_subject", event.key.as_str())
        .set("banyan-version", event.version.to_string())
        .set("banyan-origin", event.origin);
    Record { topic: event.topic, key: event.key, payload: event.payload, headers }
}

#[cfg(test)]
mod tests {
    use sqlx::types::Json;

    use super::*;

    fn logged() -> Logged {
        Logged {
            id: Uuid::now_v7(),
            created_at: OffsetDateTime::UNIX_EPOCH,
            topic: "orders.v1".into(),
            key: "o-1".into(),
            version: 3,
            kind: "com.example.placed.v1".into(),
            origin: "monolith.orders".into(),
            payload: vec![1, 2],
            headers: Json(Headers::default()),
        }
    }

    fn message(record: Record) -> Message {
        let headers =
            record.headers.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let key = Some(record.key.into_bytes());
        Message { topic: record.topic, partition: 0, offset: 0, key, payload: record.payload, headers }
    }

    #[test]
    fn an_event_survives_its_record() {
        let sent = logged();
        let id = sent.id;
        let read = Envelope::of(&message(record(sent))).unwrap();
        assert_eq!((read.key.as_str(), read.version, read.id), ("o-1", 3, id));
        assert_eq!((read.kind.as_str(), read.origin.as_str()), ("com.example.placed.v1", "monolith.orders"));
    }

    #[test]
    fn a_publisher_can_not_speak_for_the_outbox() {
        let mut sent = logged();
        for (name, value) in
            [("banyan-replay", "1"), ("ce_id", "mine"), ("ce_other", "x"), ("tenant", "acme")]
        {
            sent.headers.0.set(name, value);
        }
        let record = record(sent);
        let names: Vec<&str> = record.headers.iter().map(|(name, _)| name).collect();
        assert!(names.contains(&"tenant") && !names.contains(&"banyan-replay"), "{names:?}");
        assert!(!names.contains(&"ce_other") && record.headers.get("ce_id") != Some("mine"), "{names:?}");
    }

    #[test]
    fn a_bad_record_says_what_is_wrong() {
        let whole = message(record(logged()));
        let broken = |change: fn(&mut Message)| {
            let mut bad = whole.clone();
            change(&mut bad);
            Envelope::of(&bad).unwrap_err()
        };
        assert_eq!(broken(|m| m.key = None), "the record has no key");
        assert_eq!(broken(|m| m.headers.retain(|(n, _)| n != "ce_id")), "header ce_id is missing");
        let zero = broken(|m| {
            m.headers.iter_mut().filter(|h| h.0 == "banyan-version").for_each(|h| h.1 = "0".into());
        });
        assert_eq!(zero, "header banyan-version is malformed: \"0\"");
        let kind = broken(|m| {
            m.headers.iter_mut().filter(|h| h.0 == "ce_type").for_each(|h| h.1 = "k".repeat(3_000));
        });
        assert_eq!(kind, "header ce_type has 3000 bytes; 1 to 200 are allowed");
    }
}
