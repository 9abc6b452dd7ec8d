//! Archiving heads and cursors.

use std::time::Duration;

use sqlx::PgPool;

use super::interval;

pub(crate) async fn archive_keys(
    pool: &PgPool,
    topic: &str,
    keys: &[String],
    quiet: Duration,
    (actor, reason): (&str, &str),
) -> sqlx::Result<i32> {
    sqlx::query_scalar("select outbox.archive_keys($1, $2, $3, $4, $5)")
        .bind(topic)
        .bind(keys)
        .bind(interval(quiet))
        .bind(actor)
        .bind(reason)
        .fetch_one(pool)
        .await
}

/// The last position looked at, and how many keys were archived.
pub(crate) async fn archive_ended(
    pool: &PgPool,
    topic: &str,
    kinds: &[&str],
    quiet: Duration,
    (after, events_max): (i64, i32),
    (actor, reason): (&str, &str),
) -> sqlx::Result<(Option<i64>, i32)> {
    sqlx::query_as("select looked, archived from outbox.archive_ended($1, $2, $3, $4, $5, $6, $7)")
        .bind(topic)
        .bind(kinds)
        .bind(interval(quiet))
        .bind(after)
        .bind(events_max)
        .bind(actor)
        .bind(reason)
        .fetch_one(pool)
        .await
}
