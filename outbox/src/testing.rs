//! Help for users' tests: what an open transaction has published, and a suite for sinks.

pub mod sinks;

use std::fmt::Debug;

use sqlx::postgres::PgTransaction;

use crate::{BoxError, Error, Event, Headers, Incoming as _, Outgoing, store};

/// An event that an open transaction has published.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// The topic.
    pub topic: String,
    /// The key.
    pub key: String,
    /// Its version, final only if the transaction commits.
    pub version: i64,
    /// The event's type.
    pub kind: String,
    /// Who published it.
    pub origin: String,
    /// The bytes.
    pub payload: Vec<u8>,
    /// The headers given with it, `content-type` among them.
    pub headers: Headers,
}

impl Published {
    /// The event, if it is an `E`: `None` for another topic or kind, an error for bytes that `E` can't read.
    pub fn decode<E: Event>(&self) -> Option<Result<E, BoxError>> {
        if self.topic != E::TOPIC.name() {
            return None;
        }
        E::decode(&self.kind, &self.payload)
    }
}

/// What `tx` has published so far, in the order of the calls; what a savepoint took back is not part of it. Works as the
/// module's own role, which can't read the log otherwise, and looks at the last 100,000 events of the database only: it is made
/// for tests.
///
/// # Errors
/// [`Error::Database`], [`Error::Denied`].
pub async fn published(tx: &mut PgTransaction<'_>) -> Result<Vec<Published>, Error> {
    let written = store::published(tx).await?;
    Ok(written
        .into_iter()
        .map(|event| Published {
            topic: event.topic,
            key: event.key,
            version: event.version,
            kind: event.kind,
            origin: event.origin,
            payload: event.payload,
            headers: event.headers.0,
        })
        .collect())
}

/// Asserts that `tx` has published exactly these events of type `E`, in this order, whatever else it published.
///
/// # Errors
/// As [`published`]; an event of this kind that can't be decoded.
///
/// # Panics
/// When they differ; shows both.
pub async fn assert_published<E: Event + PartialEq + Debug>(
    tx: &mut PgTransaction<'_>,
    wanted: &[E],
) -> Result<(), BoxError> {
    let found = published(tx).await?;
    let found = found.iter().filter_map(Published::decode::<E>).collect::<Result<Vec<_>, _>>()?;
    assert_eq!(found, wanted, "what the transaction has published as {} in {}", E::KIND, E::TOPIC.name());
    Ok(())
}

/// Asserts that `tx` has published exactly these events and no other, in this order, bytes and headers included; empty
/// `wanted` for nothing at all. A header that is not part of the event, such as `traceparent`, is not compared.
///
/// # Errors
/// As [`published`]; an event that can't be encoded.
///
/// # Panics
/// When they differ; shows both.
pub async fn assert_published_all(
    tx: &mut PgTransaction<'_>,
    wanted: &[&dyn Outgoing],
) -> Result<(), BoxError> {
    let found = published(tx).await?;
    let wanted = wanted.iter().map(|event| event.encode()).collect::<Result<Vec<_>, _>>()?;
    let names = |topic: &str, kind: &str, key: &str| format!("{topic} {kind} {key}");
    let seen: Vec<_> = found.iter().map(|e| names(&e.topic, &e.kind, &e.key)).collect();
    let hoped: Vec<_> = wanted.iter().map(|e| names(e.topic.name(), e.kind, &e.key)).collect();
    assert_eq!(seen, hoped, "what the transaction has published");
    for (found, wanted) in found.iter().zip(&wanted) {
        let kind = wanted.kind;
        assert!(
            found.payload == wanted.payload,
            "{kind} {}: published {:?}, wanted {:?}",
            wanted.key,
            String::from_utf8_lossy(&found.payload),
            String::from_utf8_lossy(&wanted.payload)
        );
        for (name, value) in wanted.headers.iter() {
            assert_eq!(found.headers.get(name), Some(value), "{kind} {}: header {name}", wanted.key);
        }
    }
    Ok(())
}
