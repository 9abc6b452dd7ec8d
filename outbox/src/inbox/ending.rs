//! How a handler's transaction ends.

use sqlx::postgres::PgTransaction;

use super::{
    Attempt, Gate,
    verdict::{chain, is_passing, is_silence},
};
use crate::{Error, store};

const ABORTED: &str = "the handler left its transaction aborted";

const ENDED: &str = "the handler ended the inbox's transaction: by a commit or rollback of its own, or by a savepoint's \
                     begin() that it did not await";

impl Gate {
    /// What a handler has done to its transaction, if that must not be committed. One that swallowed a database error leaves
    /// it aborted: the commit would roll back in silence. One that ended it has parted effect and cursor.
    pub(super) async fn spoilt(&self, tx: &mut PgTransaction<'_>) -> Result<Option<&'static str>, Error> {
        let mut open = self.database.hear(store::is_open(tx)).await;
        if matches!(open, Err(sqlx::Error::Database(_))) {
            // Maybe the late answer to a statement that the handler did not wait for.
            open = self.database.hear(store::is_open(tx)).await;
        }
        match open {
            Ok(true) => Ok(None),
            Ok(false) => {
                let handler = self.name();
                tracing::error!(handler, "{ENDED}; its effects may be committed apart from their cursors");
                // It may have begun another one, of which the connection does not know.
                self.database.hear(store::roll_back(tx)).await?;
                Ok(Some(ENDED))
            }
            Err(error @ sqlx::Error::Database(_)) if !is_passing(&error) => Ok(Some(ABORTED)),
            Err(error) => Err(error.into()),
        }
    }

    /// A handler's words, and whether it ended its transaction before it said them: what it did then stays, though refused.
    pub(super) async fn refusal(&self, tx: &mut PgTransaction<'_>, error: String) -> String {
        match self.spoilt(tx).await {
            Ok(Some(ENDED)) => format!("{error}; and {ENDED}"),
            Ok(_) | Err(_) => error,
        }
    }

    /// Rolls back. An error is no verdict: it answers a statement that the handler did not wait for, or the connection is lost;
    /// then the rollback is sent when the connection goes back to its pool, which looks whether it is sound.
    ///
    /// # Errors
    /// No answer came: the connection is not to be used again.
    pub(super) async fn undo(&self, tx: PgTransaction<'_>) -> Result<(), Error> {
        match self.database.hear(tx.rollback()).await {
            Err(error) if is_silence(&error) => Err(error.into()),
            Err(error) => {
                tracing::debug!(error = chain(&error), "a rollback is left to the pool");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}

/// What a deferred constraint says at commit is a verdict on the effect; the rest is the database's.
pub(super) fn uncommitted(error: sqlx::Error) -> Result<Attempt, Error> {
    match &error {
        sqlx::Error::Database(_) if !is_passing(&error) => Ok(Attempt::Refused(chain(&error))),
        _ => Err(error.into()),
    }
}
