//! What the target's home may ask of its authority: functions, no tables.

use std::collections::BTreeMap;

use sqlx::PgPool;
use sqlx::postgres::PgTransaction;

use super::columns;
use super::owners::Locked;
use crate::Epoch;
use crate::handover::target::Row;

/// A row as it is stored.
#[derive(sqlx::FromRow)]
struct Stored {
    key: String,
    epoch: i64,
    writable: bool,
    recall_epoch: Option<i64>,
}

pub(crate) async fn born(
    tx: &mut PgTransaction<'_>,
    migration: &str,
    key: &str,
    epoch: Epoch,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select strangler.born($1, $2, $3)")
        .bind(migration)
        .bind(key)
        .bind(epoch.get())
        .fetch_one(&mut **tx)
        .await
}

pub(crate) async fn lock(
    tx: &mut PgTransaction<'_>,
    migration: &str,
    key: &str,
) -> Result<Locked, sqlx::Error> {
    sqlx::query_as("select verdict, epoch from strangler.lock_authority($1, $2)")
        .bind(migration)
        .bind(key)
        .fetch_one(&mut **tx)
        .await
}

pub(crate) async fn lock_outcome(
    tx: &mut PgTransaction<'_>,
    migration: &str,
    key: &str,
) -> Result<Locked, sqlx::Error> {
    sqlx::query_as("select verdict, epoch from strangler.lock_outcome($1, $2)")
        .bind(migration)
        .bind(key)
        .fetch_one(&mut **tx)
        .await
}

pub(crate) async fn holds_one_of(
    tx: &mut PgTransaction<'_>,
    migration: &str,
    keys: &[String],
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        "select k.key from unnest($2::text[]) as k (key) where strangler.holds($1, k.key) limit 1",
    )
    .bind(migration)
    .bind(keys)
    .fetch_optional(&mut **tx)
    .await
}

pub(crate) async fn holds_any(pool: &PgPool, migration: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select strangler.holds_any($1)").bind(migration).fetch_one(pool).await
}

pub(crate) async fn offered(
    tx: &mut PgTransaction<'_>,
    migration: &str,
    offers: &[(String, Epoch)],
) -> Result<Vec<String>, sqlx::Error> {
    let (keys, epochs) = columns(offers);
    sqlx::query_scalar(
        "select strangler.offered($1, k.key, k.epoch) from unnest($2::text[], $3::bigint[]) as k (key, epoch)",
    )
    .bind(migration)
    .bind(keys)
    .bind(epochs)
    .fetch_all(&mut **tx)
    .await
}

/// The rows of these keys, as the transaction sees them, without a lock.
pub(crate) async fn find(
    tx: &mut PgTransaction<'_>,
    migration: &str,
    keys: &[String],
) -> Result<BTreeMap<String, Row>, sqlx::Error> {
    let stored: Vec<Stored> =
        sqlx::query_as("select key, epoch, writable, recall_epoch from strangler.find_authority($1, $2)")
            .bind(migration)
            .bind(keys)
            .fetch_all(&mut **tx)
            .await?;
    Ok(rows(stored))
}

/// The rows of these keys, locked until the transaction ends.
pub(crate) async fn claim(
    tx: &mut PgTransaction<'_>,
    migration: &str,
    keys: &[String],
) -> Result<BTreeMap<String, Row>, sqlx::Error> {
    let stored: Vec<Stored> =
        sqlx::query_as("select key, epoch, writable, recall_epoch from strangler.claim_authority($1, $2)")
            .bind(migration)
            .bind(keys)
            .fetch_all(&mut **tx)
            .await?;
    Ok(rows(stored))
}

/// The rows of these keys, locked against a change of their owner until the transaction ends; those that someone changes now are left
/// out.
pub(crate) async fn claim_to_publish(
    tx: &mut PgTransaction<'_>,
    migration: &str,
    keys: &[String],
) -> Result<BTreeMap<String, Row>, sqlx::Error> {
    let stored: Vec<Stored> =
        sqlx::query_as("select key, epoch, writable, recall_epoch from strangler.claim_to_publish($1, $2)")
            .bind(migration)
            .bind(keys)
            .fetch_all(&mut **tx)
            .await?;
    Ok(rows(stored))
}

/// Writes what steps made of rows that the transaction has claimed.
pub(crate) async fn put(
    tx: &mut PgTransaction<'_>,
    migration: &str,
    changed: &[(String, Row)],
) -> Result<(), sqlx::Error> {
    let keys: Vec<&str> = changed.iter().map(|(key, _)| key.as_str()).collect();
    let epochs: Vec<i64> = changed.iter().map(|(_, row)| row.epoch.get()).collect();
    let writable: Vec<bool> = changed.iter().map(|(_, row)| row.writable).collect();
    let recalled: Vec<Option<i64>> =
        changed.iter().map(|(_, row)| row.recall_epoch.map(Epoch::get)).collect();
    sqlx::query(
        "select strangler.put_authority($1, k.key, k.epoch, k.writable, k.recall_epoch)
         from unnest($2::text[], $3::bigint[], $4::boolean[], $5::bigint[])
              as k (key, epoch, writable, recall_epoch)",
    )
    .bind(migration)
    .bind(keys)
    .bind(epochs)
    .bind(writable)
    .bind(recalled)
    .execute(&mut **tx)
    .await
    .map(drop)
}

fn rows(stored: Vec<Stored>) -> BTreeMap<String, Row> {
    let row = |stored: Stored| {
        let Stored { key, epoch, writable, recall_epoch } = stored;
        (key, Row { epoch: Epoch(epoch), writable, recall_epoch: recall_epoch.map(Epoch) })
    };
    stored.into_iter().map(row).collect()
}
