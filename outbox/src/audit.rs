//! The record of what operators did: nothing is repaired by hand without a row here, written in the transaction of the repair.

use sqlx::{FromRow, PgPool};
use time::OffsetDateTime;

use crate::{Error, store};

/// One action of an operator.
#[derive(Debug, Clone, PartialEq, FromRow)]
#[non_exhaustive]
pub struct Entry {
    /// Counts up; later entries have higher ones.
    pub id: i64,
    /// When, by the database's clock.
    pub at: OffsetDateTime,
    /// The login role.
    pub role: String,
    /// The person, as the caller named them.
    pub actor: String,
    /// What was done, such as `discard_dead_letter`.
    pub action: String,
    /// To what: topic, key, version, handler and the like.
    pub subject: serde_json::Value,
    /// Why, in the actor's words.
    pub reason: String,
}

/// Which entries; the default is all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this person.
    pub actor: Option<String>,
    /// Of this action.
    pub action: Option<String>,
    /// On this key.
    pub key: Option<String>,
}

/// A page of the record, the latest first: at most `limit` entries older than `before`. The pool's role needs
/// [`crate::grant_operator`].
///
/// # Errors
/// [`Error::Database`], [`Error::Denied`].
pub async fn list(
    pool: &PgPool,
    filter: &Filter,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<Entry>, Error> {
    Ok(store::audit(pool, filter, before, limit).await?)
}

/// The bounds of an action's actor and reason, before the database is asked.
pub(crate) fn explained(actor: &str, reason: &str) -> Result<(), Error> {
    for (what, text, max) in [("actor", actor, 200), ("reason", reason, 2000)] {
        if text.trim().is_empty() || text.len() > max {
            return Err(Error::Unexplained { what, max });
        }
    }
    Ok(())
}
