//! Waking a relay of the same process.

use std::sync::Arc;

use sqlx::postgres::PgTransaction;
use tokio::sync::Notify;

use crate::Error;

/// Wakes a relay that runs in this process, so that an event is on its way at once and not at the next poll. Only a hint: a
/// relay that is not woken polls every 1 to 50 ms. Never by `notify` in the transaction: that takes a lock which serializes
/// all commits.
#[derive(Debug, Clone, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    /// Wakes the relay. Call it after the commit; what is not committed is not seen.
    pub fn now(&self) {
        self.0.notify_one();
    }

    /// Commits, then wakes.
    ///
    /// # Errors
    /// [`Error::Database`]: as with any commit, the transaction's outcome is then unknown.
    pub async fn commit(&self, tx: PgTransaction<'_>) -> Result<(), Error> {
        tx.commit().await?;
        self.now();
        Ok(())
    }

    pub(crate) async fn woken(&self) {
        self.0.notified().await;
    }
}
