//! Writing events in the caller's transaction.

use sqlx::postgres::PgTransaction;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::{Codec as _, Error, Event, Headers, Topic, store, trace};

/// Publishes an event in `tx` and returns its version, counted from 1 per (topic, key). It becomes visible, and is sent,
/// only if the caller commits. Holds the row lock of the key's head until then, so writers of one key queue. The current
/// trace, if there is one, goes with it (`traceparent`), unless the event names one in its headers.
///
/// # Errors
/// [`Error::Invalid`] for a bad key, kind, size or header; [`Error::Denied`] for a role without an origin.
pub async fn publish<E: Event>(tx: &mut PgTransaction<'_>, event: &E) -> Result<i64, Error> {
    let topic = E::TOPIC.name();
    let span =
        tracing::info_span!("publish", otel.name = format!("publish {topic}"), otel.kind = "producer", topic);
    let work = async {
        let payload =
            E::Codec::encode(event).map_err(|source| Error::Encode { kind: E::KIND.to_owned(), source })?;
        let mut headers = Headers::default();
        event.headers(&mut headers);
        headers.set("content-type", E::Codec::CONTENT_TYPE);
        trace::inject(&mut headers);
        store::publish(tx, topic, event.key(), E::KIND, &payload, &headers)
            .await
            .map_err(|error| invalid::<E>(event, error))
    };
    work.instrument(span).await
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

/// A broken check constraint is the event's fault and says so; anything else is the database's.
fn invalid<E: Event>(event: &E, error: sqlx::Error) -> Error {
    match error.as_database_error() {
        Some(e) if matches!(e.code().as_deref(), Some("23514" | "22021")) => Error::Invalid {
            kind: E::KIND.to_owned(),
            key: event.key().to_owned(),
            reason: e.message().to_owned(),
        },
        _ => error.into(),
    }
}
