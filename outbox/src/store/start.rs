//! Where handlers and groups begin.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use sqlx::{FromRow, PgConnection, PgExecutor, postgres::PgTransaction};
use time::OffsetDateTime;

use super::lease::interval;

pub(crate) async fn register(db: &mut PgConnection, handler: &str) -> sqlx::Result<()> {
    sqlx::query("select outbox.register($1)").bind(handler).execute(db).await?;
    Ok(())
}

/// Keeps other starts of the group away until the transaction ends.
pub(crate) async fn lock_group(tx: &mut PgTransaction<'_>, group: &str) -> sqlx::Result<()> {
    sqlx::query("select pg_advisory_xact_lock(hashtext('outbox.start'), hashtext($1))")
        .bind(group)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// The partitions of these topics that the group has read.
pub(crate) async fn subscribed(
    tx: &mut PgTransaction<'_>,
    group: &str,
    topics: &[&str],
) -> sqlx::Result<HashSet<(String, i32)>> {
    let rows = sqlx::query_as("select topic, partition from outbox.subscribed($1, $2)")
        .bind(group)
        .bind(topics)
        .fetch_all(&mut **tx)
        .await?;
    Ok(rows.into_iter().collect())
}

pub(crate) async fn subscribe(
    db: impl PgExecutor<'_>,
    group: &str,
    topic: &str,
    partition: i32,
) -> sqlx::Result<()> {
    sqlx::query("select outbox.subscribe($1, $2, $3)")
        .bind(group)
        .bind(topic)
        .bind(partition)
        .execute(db)
        .await?;
    Ok(())
}

/// The handlers that the group has read a topic with; with offsets, those of them that have missed what came after, in the
/// partitions that have one.
pub(crate) async fn readers(
    db: impl PgExecutor<'_>,
    group: &str,
    topic: &str,
) -> sqlx::Result<HashMap<String, Option<Vec<Option<i64>>>>> {
    let rows = sqlx::query_as("select handler, missed_from from outbox.readers($1, $2)")
        .bind(group)
        .bind(topic)
        .fetch_all(db)
        .await?;
    Ok(rows.into_iter().collect())
}

/// Notes that the group, which stands at `positions`, reads a topic with these handlers.
pub(crate) async fn read_with(
    tx: &mut PgTransaction<'_>,
    (group, topic): (&str, &str),
    handlers: &[&str],
    positions: &[Option<i64>],
) -> sqlx::Result<()> {
    sqlx::query("select outbox.read_with($1, $2, $3, $4)")
        .bind(group)
        .bind(topic)
        .bind(handlers)
        .bind(positions)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Notes that a member of the group reads a topic from `positions` on with these handlers only.
pub(crate) async fn left_out(
    tx: &mut PgTransaction<'_>,
    (group, topic): (&str, &str),
    handlers: &[&str],
    positions: &[Option<i64>],
) -> sqlx::Result<()> {
    sqlx::query("select outbox.left_out($1, $2, $3, $4)")
        .bind(group)
        .bind(topic)
        .bind(handlers)
        .bind(positions)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// The offsets at which a handler has begun in a topic, and since when; none before its first start.
pub(crate) async fn begun_at(
    tx: &mut PgTransaction<'_>,
    handler: &str,
    topic: &str,
) -> sqlx::Result<Option<(Vec<i64>, OffsetDateTime)>> {
    sqlx::query_as("select offsets, since from outbox.begun_at($1, $2)")
        .bind(handler)
        .bind(topic)
        .fetch_optional(&mut **tx)
        .await
}

pub(crate) async fn begin_at(
    tx: &mut PgTransaction<'_>,
    (handler, topic): (&str, &str),
    (kind, because): (&str, Option<&str>),
    offsets: &[i64],
) -> sqlx::Result<()> {
    sqlx::query("select outbox.begin_at($1, $2, $3, $4, $5)")
        .bind(handler)
        .bind(topic)
        .bind(kind)
        .bind(because)
        .bind(offsets)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

pub(crate) async fn own_origins(db: &mut PgConnection) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar("select outbox.own_origins()").fetch_one(db).await
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
    db: &mut PgConnection,
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
        .fetch_all(db)
        .await
}
