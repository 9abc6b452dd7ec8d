//! The end of a handler that no program has any more, such as one that was given another name.
//!
//! What waits for it would be kept for ever otherwise, with the days of the log that it is of, and its cursors keep ended keys
//! from the archive. The pool's role needs [`crate::grant_operator`].

use sqlx::PgPool;

use crate::{Error, audit::explained, store};

/// Drops what is parked, dead or missing for a handler, and forgets its cursors and where it began. Returns how many keys it had
/// met. One transaction, which takes as long as to delete these rows. A program that starts the handler again begins anew: what
/// it has applied it may apply again.
///
/// # Errors
/// [`Error::Refused`] when there is no such handler, or a group is noted to read with it: one start of that group without the
/// handler changes that. [`Error::Unexplained`], [`Error::Database`], [`Error::Denied`]. Nothing has changed then.
pub async fn retire(pool: &PgPool, handler: &str, actor: &str, reason: &str) -> Result<u64, Error> {
    end(pool, handler, false, (actor, reason)).await
}

/// As [`retire`], though a group is noted to read with the handler: for a group that is gone as a whole. One that does run would
/// lose its cursors, and apply again what is read again.
///
/// # Errors
/// As [`retire`], but for the group.
pub async fn retire_with_its_group(
    pool: &PgPool,
    handler: &str,
    actor: &str,
    reason: &str,
) -> Result<u64, Error> {
    end(pool, handler, true, (actor, reason)).await
}

async fn end(
    pool: &PgPool,
    handler: &str,
    forced: bool,
    (actor, reason): (&str, &str),
) -> Result<u64, Error> {
    explained(actor, reason)?;
    let keys = store::retire_handler(pool, handler, forced, (actor, reason)).await.map_err(|error| {
        match error.as_database_error() {
            Some(e) if e.code().as_deref() == Some("22023") => Error::Refused(e.message().to_owned()),
            _ => error.into(),
        }
    })?;
    Ok(u64::try_from(keys).unwrap_or(0))
}
