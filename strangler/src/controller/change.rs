//! How a policy is changed: under its row lock, with births at a halt, and never without a line of history.

use sqlx::postgres::PgTransaction;
use tokio::time::timeout;

use super::Controller;
use crate::error::{LOCKED, code};
use crate::policy::Policy;
use crate::store::policy as store;
use crate::{Error, store::policy::Entry};

/// The bounds of the free texts in history, in bytes.
pub(super) const BY_MAX: usize = 200;
pub(super) const REASON_MAX: usize = 500;

impl Controller {
    /// Begins a change: waits for births in flight, and lets new ones wait, until the transaction ends.
    pub(super) async fn begin(&self) -> Result<(PgTransaction<'static>, Policy), Error> {
        let (pool, migration) = (&self.0.pool, &self.0.migration);
        let mut tx = pool.begin().await?;
        store::limit_waits(&mut tx, self.0.settings.change_wait).await?;
        store::queue(&mut tx, migration).await.map_err(|error| self.busy(error))?;
        let policy = store::lock(&mut tx, migration).await.map_err(|error| self.busy(error))?;
        let policy = policy.ok_or_else(|| Error::UnknownMigration(migration.clone()))?;
        Ok((tx, policy))
    }

    /// Writes the next policy with its line of history and commits both.
    pub(super) async fn commit(
        &self,
        mut tx: PgTransaction<'static>,
        from: &Policy,
        mut next: Policy,
        entry: Entry<'_>,
    ) -> Result<Policy, Error> {
        let entry = Entry { by: cut(entry.by, BY_MAX), reason: cut(entry.reason, REASON_MAX), ..entry };
        (next.revision, next.changed_at) = store::update(&mut tx, &self.0.migration, &next).await?;
        store::note(&mut tx, &self.0.migration, from, &next, &entry).await?;
        tx.commit().await?;
        tracing::info!(
            migration = self.0.migration, action = entry.action, stage = %next.stage, percent = next.percent,
            revision = next.revision, by = entry.by, "the policy was changed"
        );
        Ok(next)
    }

    /// Whether each key of the domain has an owner, asked while births are at a halt.
    pub(super) async fn left_out(&self, tx: &mut PgTransaction<'static>) -> Result<Option<String>, Error> {
        match timeout(self.0.settings.recheck_timeout, self.seeding().left_out(tx)).await {
            Ok(found) => found,
            Err(_) => Err(Error::Busy(self.0.migration.clone())),
        }
    }

    fn busy(&self, error: sqlx::Error) -> Error {
        match code(&error).as_deref() {
            Some(LOCKED) => Error::Busy(self.0.migration.clone()),
            _ => error.into(),
        }
    }
}

pub(super) fn cut(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or(text)
}
