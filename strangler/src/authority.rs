//! Which keys the target may write, in the target's database.

use std::sync::Arc;

use sqlx::PgPool;
use sqlx::postgres::PgTransaction;

use crate::error::{LOCKED, code};
use crate::store::authority as store;
use crate::store::owners::Locked;
use crate::{Epoch, Error, Home};

/// The authority of the target over one migration's keys. Its role needs [`crate::grant_home`].
#[derive(Debug, Clone)]
pub struct Authority {
    migration: Arc<str>,
}

impl Authority {
    /// Of the migration with this name, which is the source's.
    pub fn new(migration: &str) -> Self {
        Self { migration: migration.into() }
    }

    /// Notes, in the transaction that applies a key's first event, that the key was born here. A repeat changes nothing,
    /// nor does a late birth of a key whose authority has moved on.
    ///
    /// # Errors
    /// [`Error::Database`], also for a malformed key or epoch.
    pub async fn born(&self, tx: &mut PgTransaction<'_>, key: &str, epoch: Epoch) -> Result<(), Error> {
        let new = store::born(tx, &self.migration, key, epoch).await?;
        if !new {
            tracing::debug!(key, %epoch, "a key that was born here before");
        }
        Ok(())
    }

    /// Locks a key for a write by the target until the caller's transaction ends. Never waits.
    ///
    /// # Errors
    /// [`Error::NotOwner`] for the source's key, and for a key whose first event is not applied yet: ask the source for the
    /// owner and, when that is the target, try again a moment later. [`Error::Moving`] while it changes its owner: the
    /// transaction may be aborted by then, so roll it back and try again outside it.
    pub async fn lock(&self, tx: &mut PgTransaction<'_>, key: &str) -> Result<Epoch, Error> {
        let row = store::lock(tx, &self.migration, key).await;
        verdict(row.map_err(|error| explain(error, key))?, key)
    }

    /// As [`Authority::lock`], for what ends something that was begun before: while the source calls the key back, that goes on,
    /// and nothing new begins.
    ///
    /// # Errors
    /// As [`Authority::lock`]; [`Error::Moving`] only while another transaction moves the key.
    pub async fn lock_outcome(&self, tx: &mut PgTransaction<'_>, key: &str) -> Result<Epoch, Error> {
        let row = store::lock_outcome(tx, &self.migration, key).await;
        verdict(row.map_err(|error| explain(error, key))?, key)
    }

    /// Whether the target may write any key of the migration: while it may write none, it has no business with the outside world.
    /// A fence that commits meanwhile may not be seen.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn holds_any(&self, pool: &PgPool) -> Result<bool, Error> {
        Ok(store::holds_any(pool, &self.migration).await?)
    }

    /// Notes, in the transaction that applies the source's offer of this epoch, that it came: from then on the
    /// key may be granted.
    ///
    /// # Errors
    /// [`Error::ForeignWrite`] when the target may write the key, [`Error::Stale`] when a later epoch, or this one, is noted: the
    /// record must not be applied. [`Error::Moving`] when the row could not be locked in time.
    pub async fn offered(&self, tx: &mut PgTransaction<'_>, key: &str, epoch: Epoch) -> Result<(), Error> {
        self.offered_all(tx, &[(key.to_owned(), epoch)]).await
    }

    /// As [`Authority::offered`], for offers of many keys, each named once, in the order of keys.
    ///
    /// # Errors
    /// As [`Authority::offered`], of the first key that has one: none of the records must be applied.
    pub async fn offered_all(
        &self,
        tx: &mut PgTransaction<'_>,
        offers: &[(String, Epoch)],
    ) -> Result<(), Error> {
        // A lock that did not come in time stays the database's failure, which a replica waits out.
        let verdicts = store::offered(tx, &self.migration, offers).await?;
        for ((key, epoch), verdict) in offers.iter().zip(verdicts) {
            match verdict.as_str() {
                "noted" => {}
                "stale" => return Err(Error::Stale { key: key.clone(), epoch: *epoch }),
                "foreign" => return Err(Error::ForeignWrite { key: key.clone() }),
                other => return Err(Error::stored("verdict", other)),
            }
        }
        Ok(())
    }

    /// The migration's name.
    pub(crate) fn migration(&self) -> &str {
        &self.migration
    }

    /// Whether the target may write a key, as the caller's transaction sees it, without a lock. For a replica that must
    /// refuse foreign writes to keys of its own.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn holds(&self, tx: &mut PgTransaction<'_>, key: &str) -> Result<bool, Error> {
        Ok(self.holds_one_of(tx, &[key.to_owned()]).await?.is_some())
    }

    /// One of these keys that [`Authority::holds`], if there is one.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn holds_one_of(
        &self,
        tx: &mut PgTransaction<'_>,
        keys: &[String],
    ) -> Result<Option<String>, Error> {
        Ok(store::holds_one_of(tx, &self.migration, keys).await?)
    }
}

fn verdict(row: Locked, key: &str) -> Result<Epoch, Error> {
    let (key, epoch) = (key.to_owned(), Epoch(row.epoch));
    match row.verdict.as_str() {
        "writable" => Ok(epoch),
        "recalled" => Err(Error::Moving { key }),
        "fenced" | "missing" => Err(Error::NotOwner { key, owner: Home::Source, epoch }),
        other => Err(Error::stored("verdict", other)),
    }
}

fn explain(error: sqlx::Error, key: &str) -> Error {
    match code(&error).as_deref() {
        Some(LOCKED) => Error::Moving { key: key.to_owned() },
        _ => error.into(),
    }
}
