//! Quarantine: events that the broker refused too often ([`crate::RelayOptions::attempts_max`]). Each holds up its key, and waits
//! here for an operator: to be sent again, or to have a filler take its place. Every action names who did it and why, and is in
//! [`crate::audit`]. The pool's role needs [`crate::grant_operator`].

use sqlx::{FromRow, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Error, Topic, audit::explained, store};

/// The kind of a filler. It has the id and version of the event in whose place it is, and no payload. A handler passes over it; a
/// replica waits for a snapshot.
pub const SKIPPED: &str = "outbox.skipped.v1";

/// An event in quarantine. What is `None` is not known: the log has lost the event.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
#[non_exhaustive]
pub struct Quarantined {
    /// The logical topic.
    pub topic: Option<String>,
    /// The key that waits.
    pub key: Option<String>,
    /// The event's version.
    pub version: Option<i64>,
    /// The event's id.
    pub id: Option<Uuid>,
    /// The event's kind.
    pub kind: Option<String>,
    /// Its place in the log; lists go on after the last one.
    pub position: i64,
    /// How often it was refused.
    pub attempts: i32,
    /// The last refusal.
    pub error: Option<String>,
    /// When it was given up.
    pub quarantined_at: OffsetDateTime,
}

/// Events in quarantine with a position over `after` (0 at first), in the order of positions, at most `limit`.
///
/// # Errors
/// [`Error::Database`], [`Error::Denied`].
pub async fn list(operator: &PgPool, after: i64, limit: i64) -> Result<Vec<Quarantined>, Error> {
    Ok(store::quarantined(operator, after, limit).await?)
}

/// Has an event sent again, with all its attempts. The rest of its key follows when it is delivered.
///
/// # Errors
/// [`Error::Unfit`] when it is not in quarantine; [`Error::Unexplained`] without actor or reason; [`Error::Denied`],
/// [`Error::Database`].
pub async fn resend(
    operator: &PgPool,
    (topic, key, version): (Topic, &str, i64),
    actor: &str,
    reason: &str,
) -> Result<(), Error> {
    explained(actor, reason)?;
    store::resend(operator, (topic.name(), key, version), actor, reason).await.map_err(unfit)
}

/// Puts a filler ([`SKIPPED`]) in the place of an event and has it sent. The event itself is kept in `outbox.skipped`.
///
/// # Errors
/// [`Error::Unfit`] when it is not in quarantine, opens its stream (version 1), or is of a kind in `outbox.never_skipped`; else
/// as [`resend`].
pub async fn skip(
    operator: &PgPool,
    (topic, key, version): (Topic, &str, i64),
    actor: &str,
    reason: &str,
) -> Result<(), Error> {
    explained(actor, reason)?;
    store::skip(operator, (topic.name(), key, version), actor, reason).await.map_err(unfit)
}

/// What the functions say of the event is for the operator.
fn unfit(error: sqlx::Error) -> Error {
    match error.as_database_error() {
        Some(e) if matches!(e.code().as_deref(), Some("P0002" | "55000")) => {
            Error::Unfit(e.message().to_owned())
        }
        _ => error.into(),
    }
}
