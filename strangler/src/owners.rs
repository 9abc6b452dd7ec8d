//! Who owns a key, at the source: the one place of decision.

use std::sync::Arc;

use sqlx::{PgPool, postgres::PgTransaction};

use crate::cache::Cache;
use crate::error::{LOCKED, UNDEFINED, code};
use crate::store::owners as store;
use crate::{Epoch, Error, Home, Ownership, Seal};

/// What a release of the target's comes to at the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The key is the source's to write from the commit on: work that waited begins.
    Mine,
    /// It is of a recall that is not under way any more. The key is the target's, or on its way back by a later recall.
    Follow,
}

/// The owners of one migration's keys, in the source's database. Clones share the cache.
#[derive(Debug, Clone)]
pub struct Owners {
    migration: Arc<str>,
    pool: PgPool,
    cache: Arc<Cache>,
}

impl Owners {
    /// The pool is the one that [`Owners::find`] asks; its role needs [`crate::grant_writer`] or [`crate::grant_assigner`].
    pub fn new(migration: &str, pool: PgPool) -> Self {
        Self { migration: migration.into(), pool, cache: Arc::default() }
    }

    /// Whether the source is sealed, by the same pool; its role needs [`crate::grant_writer`].
    pub fn seal(&self) -> Seal {
        Seal::new(&self.migration, self.pool.clone())
    }

    /// The migration's name.
    pub fn migration(&self) -> &str {
        &self.migration
    }

    /// Decides where a new key lives and stores it, in the caller's transaction. The policy can't change until that ends,
    /// and a change under way is awaited. A key that has an owner keeps it: a second call gives the first one's answer.
    ///
    /// # Errors
    /// [`Error::UnknownMigration`]; [`Error::Database`] when another tenant has the key, or when the wait for a change under
    /// way ran into the connection's lock timeout.
    pub async fn assign(
        &self,
        tx: &mut PgTransaction<'_>,
        tenant: &str,
        key: &str,
    ) -> Result<Ownership, Error> {
        let row = store::assign(tx, &self.migration, tenant, key).await;
        row.map_err(|error| self.explain(error, key))?.ownership()
    }

    /// Locks a key for a write by the source until the caller's transaction ends: no one can take it away before. Never
    /// waits.
    ///
    /// # Errors
    /// [`Error::NotOwner`] for the target's key. [`Error::Moving`] while it changes its owner: the transaction may be
    /// aborted by then, so roll it back and try again outside it, holding no connection. [`Error::UnknownKey`] for a key
    /// that was never born.
    pub async fn lock(&self, tx: &mut PgTransaction<'_>, key: &str) -> Result<Epoch, Error> {
        let row = store::lock(tx, &self.migration, key).await.map_err(|error| self.explain(error, key))?;
        let (key, epoch) = (key.to_owned(), Epoch(row.epoch));
        match row.verdict.as_str() {
            "source" => Ok(epoch),
            "target" => Err(Error::NotOwner { key, owner: Home::Target, epoch }),
            "moving" => Err(Error::Moving { key }),
            "missing" => Err(self.unknown(&key)),
            other => Err(Error::stored("verdict", other)),
        }
    }

    /// The owner of a key, at most a second old: for reads, and as a hint where to send a write. A write is decided by
    /// [`Owners::lock`] alone.
    ///
    /// # Errors
    /// [`Error::UnknownKey`] for a key that was never born.
    pub async fn find(&self, key: &str) -> Result<Ownership, Error> {
        match self.cache.get(key) {
            Some(known) => Ok(known),
            None => self.refresh(key).await,
        }
    }

    /// The owner of a key as it is now.
    ///
    /// # Errors
    /// As [`Owners::find`].
    pub async fn refresh(&self, key: &str) -> Result<Ownership, Error> {
        let row = store::find(&self.pool, &self.migration, key).await?;
        let found = row.ok_or_else(|| self.unknown(key))?.ownership()?;
        self.cache.put(key, &found);
        Ok(found)
    }

    /// Takes a key back, in the transaction that applies the target's release of this epoch. Its role needs
    /// [`crate::grant_mover`]. Whatever it answers, the release is applied.
    ///
    /// # Errors
    /// [`Error::ForeignWrite`] when the target had nothing to release: the record must not be applied. [`Error::Moving`] when
    /// the row could not be locked in time.
    pub async fn take_back(
        &self,
        tx: &mut PgTransaction<'_>,
        key: &str,
        epoch: Epoch,
    ) -> Result<Taken, Error> {
        let mine = self.take_all_back(tx, &[(key.to_owned(), epoch)]).await?;
        Ok(if mine.is_empty() { Taken::Follow } else { Taken::Mine })
    }

    /// As [`Owners::take_back`], for releases of many keys, each named once, in the order of keys: those that are [`Taken::Mine`].
    ///
    /// # Errors
    /// As [`Owners::take_back`], of the first key that has one: none of the records must be applied.
    pub async fn take_all_back(
        &self,
        tx: &mut PgTransaction<'_>,
        releases: &[(String, Epoch)],
    ) -> Result<Vec<String>, Error> {
        // A lock that did not come in time stays the database's failure, which a replica waits out.
        let verdicts = store::take_back(tx, &self.migration, releases).await?;
        let mut mine = Vec::new();
        for ((key, epoch), verdict) in releases.iter().zip(verdicts) {
            match verdict.as_str() {
                "taken" => mine.push(key.clone()),
                "follow" => {
                    tracing::info!(key, %epoch, "a release of a recall that is not under way any more");
                }
                "foreign" => return Err(Error::ForeignWrite { key: key.clone() }),
                other => return Err(Error::stored("verdict", other)),
            }
        }
        Ok(mine)
    }

    /// Whether a key is the source's, settled or still on its way to the target, as the caller's transaction sees it, without
    /// a lock. For a replica that must refuse foreign writes to keys of its own.
    ///
    /// # Errors
    /// As [`Owners::find`].
    pub async fn holds(&self, tx: &mut PgTransaction<'_>, key: &str) -> Result<bool, Error> {
        let row = store::find(&mut **tx, &self.migration, key).await?;
        let found = row.ok_or_else(|| self.unknown(key))?.ownership()?;
        Ok(found.home == Home::Source)
    }

    fn unknown(&self, key: &str) -> Error {
        Error::UnknownKey { migration: self.migration.to_string(), key: key.to_owned() }
    }

    fn explain(&self, error: sqlx::Error, key: &str) -> Error {
        match code(&error).as_deref() {
            Some(LOCKED) => Error::Moving { key: key.to_owned() },
            Some(UNDEFINED) => Error::UnknownMigration(self.migration.to_string()),
            _ => error.into(),
        }
    }
}
