//! What is published, and what arrives.

use time::OffsetDateTime;
use uuid::Uuid;

use crate::{BoxError, Codec, Headers, Topic};

/// A message that knows its topic, kind and key.
pub trait Event: Sized + Send + Sync + 'static {
    /// Where it goes.
    const TOPIC: Topic;
    /// Its type, `reverse.domain.name.v1`: 1 to 200 characters of `A-Z a-z 0-9 . _ -`. It becomes `ce_type`.
    const KIND: &'static str;
    /// How it becomes bytes.
    type Codec: Codec<Self>;

    /// The unit of order, 1 to 255 bytes: events of one key arrive in the order of their commits.
    fn key(&self) -> &str;

    /// Adds headers, such as `tenant`.
    fn headers(&self, _headers: &mut Headers) {}
}

/// What a handler takes: one kind (any [`Event`]), or an enum over the kinds of a topic.
pub trait Incoming: Sized + Send + 'static {
    /// The topic it comes from.
    const TOPIC: Topic;

    /// Reads a payload; `None` for a kind that is not its own, which the inbox then passes over (`ignored`).
    fn decode(kind: &str, payload: &[u8]) -> Option<Result<Self, BoxError>>;
}

impl<E: Event> Incoming for E {
    const TOPIC: Topic = E::TOPIC;

    fn decode(kind: &str, payload: &[u8]) -> Option<Result<Self, BoxError>> {
        (kind == E::KIND).then(|| E::Codec::decode(payload))
    }
}

/// An event as a handler gets it.
#[derive(Debug, Clone)]
pub struct Received<E> {
    /// The decoded event.
    pub event: E,
    /// What the outbox says about it.
    pub meta: Meta,
}

/// What the outbox says about an event.
#[derive(Debug, Clone)]
pub struct Meta {
    /// The logical topic.
    pub topic: String,
    /// The key.
    pub key: String,
    /// 1, 2, 3 ... per (topic, key).
    pub version: i64,
    /// Unique per event; the same in each repeat of it.
    pub id: Uuid,
    /// The event's type.
    pub kind: String,
    /// Who published it, such as `monolith.orders`; derived from the publisher's database role.
    pub origin: String,
    /// When it was published, by the publisher's database.
    pub time: OffsetDateTime,
    /// All text headers of the record.
    pub headers: Headers,
}

impl Meta {
    /// The `tenant` header.
    pub fn tenant(&self) -> Option<&str> {
        self.headers.get("tenant")
    }
}
