//! What the target's home may ask of its authority: functions, no tables.

use sqlx::postgres::PgTransaction;

use super::owners::Locked;
use crate::Epoch;

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

pub(crate) async fn holds(
    tx: &mut PgTransaction<'_>,
    migration: &str,
    key: &str,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select strangler.holds($1, $2)").bind(migration).bind(key).fetch_one(&mut **tx).await
}
