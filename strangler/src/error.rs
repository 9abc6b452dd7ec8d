//! What can go wrong, and what an operator may not do.

use serde::{Deserialize, Serialize};

use crate::{Epoch, Gate, Home};

/// An error of any type, as a domain or a peer returns it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A step that the rules don't allow, with the way on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The rule that forbids it.
    pub rule: String,
    /// What to do instead.
    pub way_on: String,
    /// The gates that were asked, when it was they that refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<Gate>,
}

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The step is against a rule or a gate did not pass. Nothing was changed.
    #[error("refused: {}; {}", .0.rule, .0.way_on)]
    Refused(Refusal),
    /// The plan's file can't be read as one, or contradicts itself. Nothing was changed.
    #[error("{field}: {wrong}; {way_on}")]
    Plan {
        /// The field, such as `business.target`.
        field: String,
        /// What is wrong with it.
        wrong: String,
        /// What to write instead.
        way_on: String,
    },
    /// A value is outside its bounds.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field's name.
        field: &'static str,
        /// What is wrong and what is allowed.
        reason: String,
    },
    /// The other home may write this key, not this one. Ask again for the owner and go there.
    #[error("key {key} is the {owner}'s to write, since epoch {epoch}")]
    NotOwner {
        /// The key.
        key: String,
        /// Who may.
        owner: Home,
        /// Since which epoch; 0 when this home knows none.
        epoch: Epoch,
    },
    /// The key is between two owners, or has just been fenced. Roll back and try again, outside the transaction.
    #[error("key {key} is changing its owner: try again")]
    Moving {
        /// The key.
        key: String,
    },
    /// A record of the other home's gives this key up, or offers it, though it was not its to write: two homes wrote it. An
    /// alarm; nothing was changed.
    #[error("key {key} was written by the home that does not own it")]
    ForeignWrite {
        /// The key.
        key: String,
    },
    /// A record about an earlier owner of the key. Nothing was changed.
    #[error("key {key} has had another owner since epoch {epoch}")]
    Stale {
        /// The key.
        key: String,
        /// The record's epoch.
        epoch: Epoch,
    },
    /// No owner is stored for this key: it was never born.
    #[error("key {key} has no owner in migration {migration}")]
    UnknownKey {
        /// The migration.
        migration: String,
        /// The key.
        key: String,
    },
    /// No such migration in this database.
    #[error("migration {0} is not defined here: run the source's `migrate`")]
    UnknownMigration(String),
    /// Someone else changed the policy meanwhile. Look again.
    #[error("migration {0} was changed by someone else meanwhile: look at its status and decide again")]
    Changed(String),
    /// Births in flight, a batch of keys that are being handed over, or another change did not end within the bound. Nothing was changed.
    #[error("migration {0} is busy with births, a hand-over or another change: try again")]
    Busy(String),
    /// The domain's answer was missing, late or wrong.
    #[error("the domain could not be asked: {0}")]
    Domain(String),
    /// The target's answer was missing, late or wrong.
    #[error("the target could not be asked: {0}")]
    Target(String),
    /// The role has not been granted this.
    #[error("the database refused: {0}")]
    Denied(String),
    /// A row holds what this version does not know: an older program on a newer database.
    #[error("column {column} holds {value:?}, which this version does not know")]
    Stored {
        /// The column.
        column: &'static str,
        /// Its value.
        value: String,
    },
    /// The database failed.
    #[error("the database of the migration failed")]
    Database(#[source] sqlx::Error),
    /// The schema could not be migrated.
    #[error("the migrations of schema strangler failed")]
    Migrate(#[from] sqlx::migrate::MigrateError),
}

impl Error {
    /// Whether the same call may succeed a moment later, nothing having been changed by this one.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Moving { .. } | Self::Busy(_) | Self::Changed(_))
    }

    pub(crate) fn stored(column: &'static str, value: &str) -> Self {
        Self::Stored { column, value: value.chars().take(64).collect() }
    }

    pub(crate) fn refused(rule: impl Into<String>, way_on: impl Into<String>) -> Self {
        Self::Refused(Refusal { rule: rule.into(), way_on: way_on.into(), gates: Vec::new() })
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let Some(database) = error.as_database_error() else { return Self::Database(error) };
        match database.code().as_deref() {
            // insufficient_privilege
            Some("42501") => Self::Denied(database.message().to_owned()),
            _ => Self::Database(error),
        }
    }
}

/// The SQLSTATE of a database's refusal.
pub(crate) fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error().and_then(|database| database.code()).map(|code| code.into_owned())
}

/// `lock_not_available`: by `nowait` or a lock timeout.
pub(crate) const LOCKED: &str = "55P03";
/// `query_canceled`: by a statement timeout.
pub(crate) const CANCELED: &str = "57014";
/// `undefined_object`: what `strangler.hold_policy` raises for a migration that is not defined.
pub(crate) const UNDEFINED: &str = "42704";
