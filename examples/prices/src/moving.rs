//! All that moving prices takes: how they are given up, filled in, compared, followed, found and read.
//!
//! Nothing of a price is ever under way but in the transaction that holds its row, so each whose row is free is quiet.

use async_trait::async_trait;
use outbox::{HeldBy, Progress, Received, StateTransfer, held, progress};
use sqlx::postgres::PgTransaction;
use strangler::{
    Answer, Applied, Comparable, Difference, Domain, Epoch, Error, Evidence, Fallback, Home, Homes, Key,
    KeyCopy, Movable, Pinned,
};

use crate::prices::{At, Prices, Result, Shown, Unshown, state};
use crate::{PRICES, Price, Why};

#[async_trait]
impl Movable for Prices {
    async fn begin(&self) -> Result<PgTransaction<'static>> {
        Ok(self.pool.begin().await?)
    }

    async fn pinned(&self, tx: &mut PgTransaction<'_>, keys: &[String]) -> Result<Vec<Pinned>> {
        let (free, mut pinned) = lock_free(tx, keys).await?;
        for waits in held(tx, PRICES, &free).await? {
            if !pinned.iter().any(|pinned| pinned.key == waits.key) {
                pinned.push(Pinned { key: waits.key, why: format!("an event of it waits: {:?}", waits.by) });
            }
        }
        Ok(pinned)
    }

    async fn give(&self, tx: &mut PgTransaction<'_>, keys: &[(String, Epoch)]) -> Result<()> {
        for (key, epoch) in keys {
            state(tx, key, Why::Given(*epoch)).await?;
        }
        Ok(())
    }

    async fn known(&self, tx: &mut PgTransaction<'_>, keys: &[String]) -> Result<Vec<String>> {
        let here = sqlx::query_scalar("select sku from shop.price where sku = any ($1)");
        let mut here: Vec<String> = here.bind(keys).fetch_all(&mut **tx).await?;
        let held = held(tx, PRICES, keys).await?;
        here.retain(|key| !held.iter().any(|held| held.key == *key && held.by == HeldBy::Awaiting));
        Ok(here)
    }

    async fn snapshot(&self, tx: &mut PgTransaction<'_>, keys: &[String]) -> Result<Vec<Pinned>> {
        let (free, pinned) = lock_free(tx, keys).await?;
        for key in &free {
            state(tx, key, Why::Stated).await?;
        }
        Ok(pinned)
    }

    async fn copies(&self, after: Option<&str>, upto: Option<&str>, limit: i64) -> Result<Vec<KeyCopy>> {
        let page = "select sku, version, sha256(convert_to(minor || ' ' || tenant, 'UTF8')) from shop.price
                    where sku > coalesce($1, '') and ($2::text is null or sku <= $2) order by sku limit $3";
        let page = sqlx::query_as::<_, (String, i64, [u8; 32])>(page).bind(after).bind(upto).bind(limit);
        let page = page.fetch_all(&self.pool).await?;
        Ok(page.into_iter().map(|(key, version, hash)| KeyCopy { key, version, hash }).collect())
    }
}

/// Locks the rows that nobody holds, in the order of their keys, and says which of the keys these are and which are left.
async fn lock_free(tx: &mut PgTransaction<'_>, keys: &[String]) -> Result<(Vec<String>, Vec<Pinned>)> {
    let lock = "select sku from shop.price where sku = any ($1) order by sku for update skip locked";
    let free: Vec<String> = sqlx::query_scalar(lock).bind(keys).fetch_all(&mut **tx).await?;
    let left = keys.iter().filter(|key| !free.contains(key)).cloned();
    let left = left.map(|key| Pinned { key, why: "its row is taken, or not here yet".to_owned() }).collect();
    Ok((free, left))
}

#[async_trait]
impl Domain for Prices {
    async fn keys(&self, after: Option<&str>, limit: i64) -> Result<Vec<Key>> {
        let page = "select tenant, sku from shop.price where sku > coalesce($1, '') order by sku limit $2";
        let page = sqlx::query_as::<_, (String, String)>(page).bind(after).bind(limit);
        let page = page.fetch_all(&self.pool).await?;
        Ok(page.into_iter().map(|(tenant, key)| Key { tenant, key }).collect())
    }

    async fn versions(&self, limit: i64) -> Result<Vec<(String, i64)>> {
        let recent = sqlx::query_as("select sku, version from shop.price order by changed_at desc limit $1");
        Ok(recent.bind(limit).fetch_all(&self.pool).await?)
    }

    async fn reverse_feed(&self, keys: &[String]) -> Result<Applied> {
        self.applied(keys).await
    }

    fn decides(&self) -> bool {
        false
    }
}

#[async_trait]
impl Evidence for Prices {
    async fn applied(&self, keys: &[String]) -> Result<Applied> {
        let Progress { versions, parked, awaiting } = progress(&self.relay, Self::NAME, PRICES, keys).await?;
        Ok(Applied { versions, parked, awaiting })
    }

    async fn published(&self, limit: i64) -> Result<Vec<(String, i64)>> {
        Ok(outbox::recent_heads(&self.relay, PRICES, &[], limit).await?)
    }
}

impl StateTransfer for Prices {
    const NAME: &'static str = "prices.replica";
    type Event = Price;

    fn is_snapshot(_: &str) -> bool {
        true
    }

    async fn apply(&self, tx: &mut PgTransaction<'_>, event: Received<Price>) -> Result<()> {
        let Received { event: Price { sku, tenant, minor, why }, meta } = event;
        // A stream's first record comes to both homes; the one that published it has the row.
        if meta.origin == self.origin {
            return Ok(());
        }
        let is_mine = match (&self.at, why) {
            (At::Source(here), Why::Given(epoch)) => here.take_back(tx, &sku, epoch).await.map(|_| false)?,
            (At::Source(here), Why::Born(..) | Why::Stated) => here.holds(tx, &sku).await?,
            (At::Target(here), Why::Given(epoch)) => here.offered(tx, &sku, epoch).await.map(|()| false)?,
            (At::Target(here), Why::Born(Home::Target, epoch)) => {
                here.born(tx, &sku, epoch).await.map(|()| false)?
            }
            (At::Target(here), Why::Born(Home::Source, _) | Why::Stated) => here.holds(tx, &sku).await?,
        };
        if is_mine {
            return Err(Error::ForeignWrite { key: sku }.into());
        }
        let follow = "insert into shop.price as here (sku, tenant, minor, version) values ($1, $2, $3, $4)
                      on conflict (sku) do update set minor = excluded.minor, version = excluded.version,
                          changed_at = clock_timestamp() where here.version < excluded.version";
        let follow = sqlx::query(follow).bind(sku).bind(tenant).bind(minor).bind(meta.version);
        follow.execute(&mut **tx).await?;
        Ok(())
    }
}

impl Homes for Prices {
    type Desk = Self;
    type Error = strangler::BoxError;

    fn answer(error: &Self::Error, _: Home) -> Answer {
        match error.downcast_ref::<Error>() {
            Some(Error::NotOwner { .. }) => Answer::NotOwner,
            Some(Error::Moving { .. }) => Answer::Moving,
            _ => Answer::Final,
        }
    }

    fn unroutable(error: Error) -> Self::Error {
        error.into()
    }

    fn fallback(error: &Self::Error) -> Fallback {
        error.downcast_ref::<Unshown>().map_or(Fallback::Error, |Unshown(why)| *why)
    }
}

impl Comparable for Shown {
    fn version(&self) -> i64 {
        self.version
    }

    fn compare(&self, other: &Self) -> Difference {
        if self.minor == other.minor { Difference::Equal } else { Difference::Money }
    }

    fn mutants(&self) -> Vec<Self> {
        vec![Self { minor: self.minor.wrapping_add(1), ..*self }]
    }

    fn shown(&self) -> String {
        format!("{} at version {}", self.minor, self.version)
    }
}
