//! The log: publish, heads, rights.

use sqlx::{PgPool, postgres::PgTransaction, types::Json};
use uuid::Uuid;

use crate::Headers;

pub(crate) async fn publish(
    tx: &mut PgTransaction<'_>,
    topic: &str,
    key: &str,
    kind: &str,
    payload: &[u8],
    headers: &Headers,
) -> sqlx::Result<i64> {
    sqlx::query_scalar("select outbox.publish($1, $2, $3, $4, $5)")
        .bind(topic)
        .bind(key)
        .bind(kind)
        .bind(payload)
        .bind(Json(headers))
        .fetch_one(&mut **tx)
        .await
}

pub(crate) async fn lock_head(tx: &mut PgTransaction<'_>, topic: &str, key: &str) -> sqlx::Result<i64> {
    sqlx::query_scalar("select outbox.lock($1, $2)").bind(topic).bind(key).fetch_one(&mut **tx).await
}

/// False when the head has this version under another id, or is beyond it.
pub(crate) async fn follow(
    tx: &mut PgTransaction<'_>,
    topic: &str,
    key: &str,
    version: i64,
    id: Uuid,
) -> sqlx::Result<bool> {
    sqlx::query_scalar("select outbox.follow($1, $2, $3, $4)")
        .bind(topic)
        .bind(key)
        .bind(version)
        .bind(id)
        .fetch_one(&mut **tx)
        .await
}

pub(crate) async fn head_version(tx: &mut PgTransaction<'_>, topic: &str, key: &str) -> sqlx::Result<i64> {
    sqlx::query_scalar("select outbox.head_version($1, $2)").bind(topic).bind(key).fetch_one(&mut **tx).await
}

pub(crate) async fn make_partitions(pool: &PgPool, days: i32) -> sqlx::Result<i32> {
    sqlx::query_scalar("select outbox.make_partitions($1)").bind(days).fetch_one(pool).await
}

pub(crate) async fn grant_module(
    pool: &PgPool,
    role: &str,
    origin: &str,
    topics: &[&str],
) -> sqlx::Result<()> {
    sqlx::query("select outbox.grant_module($1::name, $2, $3)")
        .bind(role)
        .bind(origin)
        .bind(topics)
        .execute(pool)
        .await?;
    Ok(())
}

pub(crate) async fn grant_replica(pool: &PgPool, role: &str) -> sqlx::Result<()> {
    sqlx::query("select outbox.grant_replica($1::name)").bind(role).execute(pool).await?;
    Ok(())
}

pub(crate) async fn grant_relay(pool: &PgPool, role: &str) -> sqlx::Result<()> {
    sqlx::query("select outbox.grant_relay($1::name)").bind(role).execute(pool).await?;
    Ok(())
}

pub(crate) async fn grant_operator(pool: &PgPool, role: &str) -> sqlx::Result<()> {
    sqlx::query("select outbox.grant_operator($1::name)").bind(role).execute(pool).await?;
    Ok(())
}
