//! What modules may ask of the owners: functions, no tables.

use sqlx::{PgExecutor, postgres::PgTransaction};

use super::columns;
use crate::{Epoch, Error, Ownership};

#[derive(sqlx::FromRow)]
pub(crate) struct Row {
    owner: String,
    phase: String,
    epoch: i64,
}

#[derive(sqlx::FromRow)]
pub(crate) struct Locked {
    pub(crate) verdict: String,
    pub(crate) epoch: i64,
}

impl Row {
    pub(crate) fn ownership(&self) -> Result<Ownership, Error> {
        Ok(Ownership { home: self.owner.parse()?, phase: self.phase.parse()?, epoch: Epoch(self.epoch) })
    }
}

pub(crate) async fn assign(
    tx: &mut PgTransaction<'_>,
    migration: &str,
    tenant: &str,
    key: &str,
) -> Result<Row, sqlx::Error> {
    sqlx::query_as("select owner, phase, epoch from strangler.assign($1, $2, $3)")
        .bind(migration)
        .bind(tenant)
        .bind(key)
        .fetch_one(&mut **tx)
        .await
}

pub(crate) async fn lock(
    tx: &mut PgTransaction<'_>,
    migration: &str,
    key: &str,
) -> Result<Locked, sqlx::Error> {
    sqlx::query_as("select verdict, epoch from strangler.lock_owner($1, $2)")
        .bind(migration)
        .bind(key)
        .fetch_one(&mut **tx)
        .await
}

pub(crate) async fn find(
    executor: impl PgExecutor<'_>,
    migration: &str,
    key: &str,
) -> Result<Option<Row>, sqlx::Error> {
    sqlx::query_as("select owner, phase, epoch from strangler.find_owner($1, $2)")
        .bind(migration)
        .bind(key)
        .fetch_optional(executor)
        .await
}

/// Locks those of the keys that are the source's and settled, when the policy hands keys over.
pub(crate) async fn claim_settled(
    tx: &mut PgTransaction<'_>,
    migration: &str,
    keys: &[String],
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar("select claimed from strangler.claim_settled($1, $2) as claimed")
        .bind(migration)
        .bind(keys)
        .fetch_all(&mut **tx)
        .await
}

/// Locks those of the keys that are the source's and settled, so that their state may be published.
pub(crate) async fn claim_to_publish(
    tx: &mut PgTransaction<'_>,
    migration: &str,
    keys: &[String],
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar("select claimed from strangler.claim_to_publish($1, $2) as claimed")
        .bind(migration)
        .bind(keys)
        .fetch_all(&mut **tx)
        .await
}

/// Fences keys that the transaction has claimed, and returns their epochs, in key order.
pub(crate) async fn fence(
    tx: &mut PgTransaction<'_>,
    migration: &str,
    keys: &[String],
) -> Result<Vec<(String, Epoch)>, sqlx::Error> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as("select key, epoch from strangler.fence($1, $2) order by key")
            .bind(migration)
            .bind(keys)
            .fetch_all(&mut **tx)
            .await?;
    Ok(rows.into_iter().map(|(key, epoch)| (key, Epoch(epoch))).collect())
}

pub(crate) async fn take_back(
    tx: &mut PgTransaction<'_>,
    migration: &str,
    releases: &[(String, Epoch)],
) -> Result<Vec<String>, sqlx::Error> {
    let (keys, epochs) = columns(releases);
    sqlx::query_scalar(
        "select strangler.take_back($1, k.key, k.epoch) from unnest($2::text[], $3::bigint[]) as k (key, epoch)",
    )
    .bind(migration)
    .bind(keys)
    .bind(epochs)
    .fetch_all(&mut **tx)
    .await
}
