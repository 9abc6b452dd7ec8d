//! Conflicts: two events with one version, so two owners wrote. The second was not applied, and an operator must look into it.
//! Settling one is noted with who and why in [`crate::audit`]. The pool's role needs [`crate::grant_operator`].

use sqlx::{FromRow, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Error, audit::explained, store};

/// Two events with one version, as a handler met them.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
#[non_exhaustive]
pub struct Conflict {
    /// The handler that met them.
    pub handler: String,
    /// The logical topic.
    pub topic: String,
    /// The key.
    pub key: String,
    /// The version that both have.
    pub version: i64,
    /// The event that was applied, or waits to be.
    pub applied_id: Uuid,
    /// The other one, which was not.
    pub other_id: Uuid,
    /// When it was met first.
    pub seen_at: OffsetDateTime,
}

/// Conflicts that nobody has settled, of one handler or of all, the oldest first, at most `limit`.
///
/// # Errors
/// [`Error::Database`], [`Error::Denied`].
pub async fn list(operator: &PgPool, handler: Option<&str>, limit: i64) -> Result<Vec<Conflict>, Error> {
    Ok(store::conflicts(operator, handler, limit).await?)
}

/// Notes that someone has looked into a conflict: the doctor tells of it no more. Neither event is touched. It stays in
/// `outbox.conflict`, or a redelivery would bring it back; a third event with that version is a conflict of its own. False when
/// there is none, or it was settled before.
///
/// # Errors
/// [`Error::Unexplained`] without actor or reason; [`Error::Database`], [`Error::Denied`].
pub async fn settle(
    operator: &PgPool,
    conflict: &Conflict,
    actor: &str,
    reason: &str,
) -> Result<bool, Error> {
    explained(actor, reason)?;
    Ok(store::settle_conflict(operator, conflict, (actor, reason)).await?)
}
