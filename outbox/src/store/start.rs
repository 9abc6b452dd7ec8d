//! Where handlers and groups begin.

use std::time::Duration;

use sqlx::{FromRow, PgPool};

use super::lease::interval;

pub(crate) async fn register(pool: &PgPool, handler: &str) -> sqlx::Result<()> {
    sqlx::query("select outbox.register($1)").bind(handler).execute(pool).await?;
    Ok(())
}

pub(crate) async fn subscribed(
    pool: &PgPool,
    group: &str,
    topic: &str,
    partition: i32,
) -> sqlx::Result<bool> {
    sqlx::query_scalar("select outbox.subscribed($1, $2, $3)")
        .bind(group)
        .bind(topic)
        .bind(partition)
        .fetch_one(pool)
        .await
}

pub(crate) async fn subscribe(pool: &PgPool, group: &str, topic: &str, partition: i32) -> sqlx::Result<()> {
    sqlx::query("select outbox.subscribe($1, $2, $3)")
        .bind(group)
        .bind(topic)
        .bind(partition)
        .execute(pool)
        .await?;
    Ok(())
}

/// Where a handler has begun in a topic; none before its first start.
pub(crate) async fn begun(pool: &PgPool, handler: &str, topic: &str) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar("select outbox.begun($1, $2)").bind(handler).bind(topic).fetch_one(pool).await
}

pub(crate) async fn begin_at(
    pool: &PgPool,
    (handler, topic): (&str, &str),
    kind: &str,
    because: Option<&str>,
) -> sqlx::Result<()> {
    sqlx::query("select outbox.begin_at($1, $2, $3, $4)")
        .bind(handler)
        .bind(topic)
        .bind(kind)
        .bind(because)
        .execute(pool)
        .await?;
    Ok(())
}

pub(crate) async fn own_origins(pool: &PgPool) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar("select outbox.own_origins()").fetch_one(pool).await
}

/// A page of heads, and one that its handler has not reached.
#[derive(Debug, FromRow)]
pub(crate) struct Compared {
    /// Where to go on; none at the end.
    pub(crate) page_end: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) head: Option<i64>,
    pub(crate) applied: Option<i64>,
}

pub(crate) async fn compare(
    pool: &PgPool,
    (handler, topic): (&str, &str),
    after: &str,
    older_than: Duration,
    page_max: i32,
) -> sqlx::Result<Vec<Compared>> {
    sqlx::query_as("select page_end, key, head, applied from outbox.compare($1, $2, $3, $4, $5)")
        .bind(handler)
        .bind(topic)
        .bind(after)
        .bind(interval(older_than))
        .bind(page_max)
        .fetch_all(pool)
        .await
}
