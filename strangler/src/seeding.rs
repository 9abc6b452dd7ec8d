//! Gives each existing key of the domain an owner row, and finds those without.

use std::time::Duration;

use sqlx::{PgPool, postgres::PgTransaction};
use tokio::time::timeout;

use crate::store::keys as store;
use crate::{Crash, Domain, Error, Key, Point};

/// The most keys in one look for those without an owner.
const LOOK_MAX: i64 = 5_000;

/// A pass over the domain's keys.
pub(crate) struct Seeding<'a> {
    pub(crate) migration: &'a str,
    pub(crate) pool: &'a PgPool,
    pub(crate) domain: &'a dyn Domain,
    pub(crate) batch_max: i64,
    pub(crate) ask_timeout: Duration,
    pub(crate) crash: Crash,
}

impl Seeding<'_> {
    /// Seeds from where the last pass stopped to the end, and returns how many keys had no owner. Each batch is a
    /// transaction with its place, so it may die anywhere and go on.
    pub(crate) async fn run(&self) -> Result<i64, Error> {
        let mut after = store::seeded_after(self.pool, self.migration).await?;
        let mut seeded = 0;
        loop {
            let keys = self.keys(after.as_deref(), self.batch_max).await?;
            let Some(last) = keys.last().map(|last| last.key.clone()) else { return Ok(seeded) };
            seeded += self.batch(keys, &last).await?;
            after = Some(last);
        }
    }

    /// Starts the next pass at the first key.
    pub(crate) async fn restart(&self) -> Result<(), Error> {
        Ok(store::note_seeding(self.pool, self.migration, None, 0).await?)
    }

    /// A key of the domain without an owner, if any, as the transaction that holds the policy sees it. Births wait
    /// meanwhile, so the caller bounds it.
    pub(crate) async fn left_out(&self, tx: &mut PgTransaction<'_>) -> Result<Option<String>, Error> {
        let mut after: Option<String> = None;
        loop {
            let keys = self.keys(after.as_deref(), LOOK_MAX).await?;
            let Some(last) = keys.last() else { return Ok(None) };
            after = Some(last.key.clone());
            let keys: Vec<String> = keys.into_iter().map(|key| key.key).collect();
            let left_out = store::without_owner(&mut **tx, self.migration, &keys).await?;
            if left_out.is_some() {
                return Ok(left_out);
            }
        }
    }

    /// The next keys of the domain and, of those, one without an owner.
    pub(crate) async fn look(&self, after: Option<&str>) -> Result<(Option<String>, Option<String>), Error> {
        let keys = self.keys(after, self.batch_max).await?;
        let last = keys.last().map(|last| last.key.clone());
        let keys: Vec<String> = keys.into_iter().map(|key| key.key).collect();
        Ok((last, store::without_owner(self.pool, self.migration, &keys).await?))
    }

    async fn batch(&self, keys: Vec<Key>, last: &str) -> Result<i64, Error> {
        let (tenants, keys): (Vec<_>, Vec<_>) = keys.into_iter().map(|key| (key.tenant, key.key)).unzip();
        let mut tx = self.pool.begin().await?;
        let new = store::seed(&mut tx, self.migration, &tenants, &keys).await?;
        let new = i64::try_from(new).unwrap_or(i64::MAX);
        store::note_seeding(&mut *tx, self.migration, Some(last), new).await?;
        tx.commit().await?;
        self.crash.point(Point::Seeded);
        Ok(new)
    }

    async fn keys(&self, after: Option<&str>, limit: i64) -> Result<Vec<Key>, Error> {
        let asked = timeout(self.ask_timeout, self.domain.keys(after, limit)).await;
        let keys = asked.map_err(|_| Error::Domain("its keys did not come in time".to_owned()))?;
        let keys = keys.map_err(|error| Error::Domain(error.to_string()))?;
        match keys.last() {
            // A domain that does not move on would be asked for ever.
            Some(last) if after == Some(last.key.as_str()) => {
                Err(Error::Domain(format!("its keys do not move on after {}", last.key)))
            }
            _ => Ok(keys),
        }
    }
}
