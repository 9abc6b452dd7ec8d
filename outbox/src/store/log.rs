//! The log: publish, heads, rights.

use sqlx::{FromRow, PgPool, postgres::PgTransaction, types::Json};
use uuid::Uuid;

use crate::{Encoded, Headers};

pub(crate) async fn publish(tx: &mut PgTransaction<'_>, event: &Encoded) -> sqlx::Result<i64> {
    sqlx::query_scalar("select outbox.publish($1, $2, $3, $4, $5)")
        .bind(event.topic.name())
        .bind(&event.key)
        .bind(event.kind)
        .bind(&event.payload)
        .bind(Json(&event.headers))
        .fetch_one(&mut **tx)
        .await
}

/// Versions in the order of `events`.
pub(crate) async fn publish_all(tx: &mut PgTransaction<'_>, events: &[Encoded]) -> sqlx::Result<Vec<i64>> {
    sqlx::query_scalar("select outbox.publish_all($1, $2, $3, $4, $5)")
        .bind(events.iter().map(|event| event.topic.name()).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.key.as_str()).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.kind).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.payload.as_slice()).collect::<Vec<_>>())
        .bind(events.iter().map(|event| Json(&event.headers)).collect::<Vec<_>>())
        .fetch_one(&mut **tx)
        .await
}

/// An event of the open transaction.
#[derive(Debug, FromRow)]
pub(crate) struct Written {
    pub(crate) topic: String,
    pub(crate) key: String,
    pub(crate) version: i64,
    pub(crate) kind: String,
    pub(crate) origin: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) headers: Json<Headers>,
}

/// What this transaction has published so far, in order.
pub(crate) async fn published(tx: &mut PgTransaction<'_>) -> sqlx::Result<Vec<Written>> {
    sqlx::query_as("select topic, key, version, kind, origin, payload, headers from outbox.published()")
        .fetch_all(&mut **tx)
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

pub(crate) async fn never_skip(pool: &PgPool, kinds: &[&str]) -> sqlx::Result<()> {
    sqlx::query("insert into outbox.never_skipped (kind) select unnest($1::text[]) on conflict do nothing")
        .bind(kinds)
        .execute(pool)
        .await?;
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

pub(crate) async fn grant_housekeeper(pool: &PgPool, role: &str) -> sqlx::Result<()> {
    sqlx::query("select outbox.grant_housekeeper($1::name)").bind(role).execute(pool).await?;
    Ok(())
}
