//! How far a feed lags: from when an event was written at one home until it was applied at the other, by the databases' clocks.

use std::collections::HashMap;

use anyhow::{Result, ensure};
use sqlx::PgPool;
use time::OffsetDateTime;

/// Events of a window.
pub(super) struct Lag {
    /// Milliseconds of each event that was applied, from `created_at`, which is before its commit, until `applied_at`, which is
    /// before the other home's.
    pub(super) ms: Vec<f64>,
    /// Events that were not applied one by one: a snapshot stood for them.
    pub(super) skipped: usize,
}

/// Of the events that one home wrote from one moment until another. All of them must have arrived.
pub(super) async fn lag(
    from: &PgPool,
    to: &PgPool,
    (since, until): (OffsetDateTime, OffsetDateTime),
) -> Result<Lag> {
    let written: Vec<(String, i64, OffsetDateTime)> = sqlx::query_as(
        "select key, version, created_at from outbox.event
         where topic = 'payments.v1' and created_at >= $1 and created_at < $2",
    )
    .bind(since)
    .bind(until)
    .fetch_all(from)
    .await?;
    let applied: Vec<(String, i64, OffsetDateTime)> = sqlx::query_as(
        "select key, version, applied_at from outbox.applied_id
         where handler = 'payments.replica' and topic = 'payments.v1' and applied_at >= $1",
    )
    .bind(since)
    .fetch_all(to)
    .await?;
    let applied: HashMap<(String, i64), OffsetDateTime> =
        applied.into_iter().map(|(key, version, at)| ((key, version), at)).collect();
    let all = written.len();
    let ms: Vec<f64> = written
        .into_iter()
        .filter_map(|(key, version, at)| {
            applied.get(&(key, version)).map(|applied| (*applied - at).as_seconds_f64() * 1e3)
        })
        .collect();
    ensure!(!ms.is_empty(), "of {all} events none was applied: there is no lag to measure");
    Ok(Lag { skipped: all - ms.len(), ms })
}
