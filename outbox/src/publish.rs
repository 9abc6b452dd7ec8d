//! Writing events in the caller's transaction.

use sqlx::postgres::PgTransaction;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::{Codec as _, Error, Event, Headers, Topic, store, trace};

/// Events that one call of [`publish_all`] takes.
pub const BATCH_MAX: usize = 1_000;

/// Payload bytes that one call of [`publish_all`] takes (64 MiB).
pub const BATCH_BYTES_MAX: usize = 64 << 20;

/// Publishes an event in `tx` and returns its version, counted from 1 per (topic, key). It becomes visible, and is sent,
/// only if the caller commits. Holds the row lock of the key's head until then, so writers of one key queue. The current
/// trace, if there is one, goes with it (`traceparent`), unless the event names one in its headers.
///
/// # Errors
/// [`Error::Invalid`] for a bad key, kind, size or header; [`Error::Denied`] for a role without an origin; [`Error::NoDay`].
pub async fn publish<E: Event>(tx: &mut PgTransaction<'_>, event: &E) -> Result<i64, Error> {
    let topic = E::TOPIC.name();
    let span =
        tracing::info_span!("publish", otel.name = format!("publish {topic}"), otel.kind = "producer", topic);
    let work = async {
        let mut event = event.encode()?;
        trace::inject(&mut event.headers);
        store::publish(tx, &event).await.map_err(|error| invalid(std::slice::from_ref(&event), error))
    };
    work.instrument(span).await
}

/// Publishes many events, of one type or several, in one round trip: `publish_all(&mut tx, &[&placed, &paid])`. Returns
/// their versions in the order given. Heads are locked in (topic, key) order, whatever the order given, so two calls can't
/// wait for each other; events of one key get their versions in the order given.
///
/// # Errors
/// As [`publish`], for the first event at fault in that locking order; [`Error::BatchTooLarge`] over [`BATCH_MAX`] events or
/// [`BATCH_BYTES_MAX`].
pub async fn publish_all(tx: &mut PgTransaction<'_>, events: &[&dyn Outgoing]) -> Result<Vec<i64>, Error> {
    let mut encoded = encode_all(events)?;
    if encoded.is_empty() {
        return Ok(Vec::new());
    }
    let events = encoded.len();
    let span = tracing::info_span!("publish", otel.name = "publish a batch", otel.kind = "producer", events);
    let work = async {
        encoded.iter_mut().for_each(|event| trace::inject(&mut event.headers));
        store::publish_all(tx, &encoded).await.map_err(|error| invalid(&encoded, error))
    };
    work.instrument(span).await
}

/// Encodes within the bounds of one call; stops at the first event beyond them.
fn encode_all(events: &[&dyn Outgoing]) -> Result<Vec<Encoded>, Error> {
    let (events_max, bytes_max) = (BATCH_MAX, BATCH_BYTES_MAX);
    let too_large = |bytes| Error::BatchTooLarge { events: events.len(), bytes, events_max, bytes_max };
    if events.len() > events_max {
        return Err(too_large(0));
    }
    let mut bytes = 0;
    let mut encoded = Vec::with_capacity(events.len());
    for event in events {
        let event = event.encode()?;
        bytes += event.payload.len();
        if bytes > bytes_max {
            return Err(too_large(bytes));
        }
        encoded.push(event);
    }
    Ok(encoded)
}

/// Any [`Event`], whatever its type, so that events of several types fit into one list. Implemented for all events and for
/// nothing else.
pub trait Outgoing: sealed::Sealed + Send + Sync {
    /// The event as it is published.
    ///
    /// # Errors
    /// [`Error::Encode`] when its codec can't express it.
    fn encode(&self) -> Result<Encoded, Error>;
}

mod sealed {
    pub trait Sealed {}
    impl<E: crate::Event> Sealed for E {}
}

/// An event as it is published.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Encoded {
    /// Where it goes.
    pub topic: Topic,
    /// Its unit of order.
    pub key: String,
    /// Its type.
    pub kind: &'static str,
    /// Its bytes.
    pub payload: Vec<u8>,
    /// Its headers, `content-type` among them.
    pub headers: Headers,
}

impl<E: Event> Outgoing for E {
    fn encode(&self) -> Result<Encoded, Error> {
        let payload =
            E::Codec::encode(self).map_err(|source| Error::Encode { kind: E::KIND.to_owned(), source })?;
        let mut headers = Headers::default();
        self.headers(&mut headers);
        headers.set("content-type", E::Codec::CONTENT_TYPE);
        Ok(Encoded { topic: E::TOPIC, key: self.key().to_owned(), kind: E::KIND, payload, headers })
    }
}

/// Locks a key's head until `tx` ends and returns its version, 0 for a key without events. Whoever captures a state to
/// publish takes this lock first and reads the state in a later statement.
///
/// # Errors
/// [`Error::Database`], [`Error::Denied`].
pub async fn lock(tx: &mut PgTransaction<'_>, topic: Topic, key: &str) -> Result<i64, Error> {
    Ok(store::lock_head(tx, topic.name(), key).await?)
}

/// Makes a key's head follow an event of another database. False when the head has this version under another id, or is
/// beyond it: this database wrote that version itself.
///
/// # Errors
/// [`Error::Database`], [`Error::Denied`].
pub async fn follow(
    tx: &mut PgTransaction<'_>,
    topic: Topic,
    key: &str,
    version: i64,
    id: Uuid,
) -> Result<bool, Error> {
    Ok(store::follow(tx, topic.name(), key, version, id).await?)
}

/// A key's last version in this database, without a lock; 0 for a key without events.
///
/// # Errors
/// [`Error::Database`], [`Error::Denied`].
pub async fn head_version(tx: &mut PgTransaction<'_>, topic: Topic, key: &str) -> Result<i64, Error> {
    Ok(store::head_version(tx, topic.name(), key).await?)
}

/// A broken rule is the event's fault and says so; anything else is the database's.
fn invalid(events: &[Encoded], error: sqlx::Error) -> Error {
    let fault = error.as_database_error().filter(|e| matches!(e.code().as_deref(), Some("23514" | "22021")));
    let Some(fault) = fault else { return error.into() };
    // Rules have names; this is PostgreSQL's, when no partition takes the row.
    if fault.table() == Some("event") && fault.constraint().is_none_or(str::is_empty) {
        return Error::NoDay;
    }
    let event = at_fault(events, fault);
    Error::Invalid {
        kind: event.map_or("(one of a batch)", |event| event.kind).to_owned(),
        key: event.map(|event| event.key.clone()).unwrap_or_default(),
        reason: fault.message().to_owned(),
    }
}

/// The one event, or the one that the hint of `outbox.publish_all` numbers.
fn at_fault<'a>(events: &'a [Encoded], fault: &dyn sqlx::error::DatabaseError) -> Option<&'a Encoded> {
    if let [event] = events {
        return Some(event);
    }
    let hint = fault.try_downcast_ref::<sqlx::postgres::PgDatabaseError>()?.hint();
    let Some(number) = hint.and_then(|hint| hint.strip_prefix("event ")) else {
        // Refused before it reached the function: PostgreSQL stores no NUL in text.
        return events.iter().find(|event| event.key.contains('\0'));
    };
    let number: usize = number.split(' ').next()?.parse().ok()?;
    events.get(number.checked_sub(1)?)
}
