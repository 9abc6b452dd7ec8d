//! Cursors and what waits in front of them.

use std::{collections::HashSet, time::Duration};

use sqlx::{FromRow, PgConnection, postgres::PgTransaction, types::Json};
use uuid::Uuid;

use super::lease::interval;
use crate::{Headers, envelope::Envelope};

/// The gate's answer.
#[derive(Debug, FromRow)]
pub(crate) struct Admitted {
    pub(crate) verdict: String,
    /// Parked events of this key.
    pub(crate) waiting: i32,
    /// What was applied as this version, for a duplicate or a conflict with the last one.
    pub(crate) applied_id: Option<Uuid>,
}

/// Versions of one key that follow each other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run<'a> {
    pub(crate) key: &'a str,
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) last_id: Uuid,
    /// The last one that this database published itself.
    pub(crate) own_last: Option<i64>,
}

/// The gate's answer to a run.
#[derive(Debug, FromRow)]
pub(crate) struct AdmittedRun {
    /// Which run, from 1.
    pub(crate) n: i32,
    pub(crate) admitted: bool,
    /// The cursor before; none for a key without one.
    pub(crate) version: Option<i64>,
    pub(crate) last_id: Option<Uuid>,
    /// This database's head, where the run has an own event that is newer.
    pub(crate) behind: Option<i64>,
}

/// A parked event whose turn it is.
#[derive(Debug, FromRow)]
pub(crate) struct ParkedRow {
    pub(crate) topic: String,
    pub(crate) key: String,
    pub(crate) version: i64,
    pub(crate) id: Uuid,
    /// Refusals.
    pub(crate) attempts: i32,
    /// Those, and what the database could not run.
    pub(crate) tries: i32,
    /// An operator has edited or discarded it.
    pub(crate) replaced: bool,
    pub(crate) payload: Vec<u8>,
    pub(crate) headers: Json<Headers>,
}

pub(crate) async fn admit(
    tx: &mut PgTransaction<'_>,
    handler: &str,
    event: &Envelope,
) -> sqlx::Result<Admitted> {
    sqlx::query_as("select verdict, waiting, applied_id from outbox.admit($1, $2, $3, $4, $5)")
        .bind(handler)
        .bind(&event.topic)
        .bind(&event.key)
        .bind(event.version)
        .bind(event.id)
        .fetch_one(&mut **tx)
        .await
}

/// Those of the keys that a handler which began `now` has never met.
pub(crate) async fn unmet(
    tx: &mut PgTransaction<'_>,
    handler: &str,
    topic: &str,
    keys: &[&str],
) -> sqlx::Result<HashSet<String>> {
    let keys: Vec<String> = sqlx::query_scalar("select outbox.unmet($1, $2, $3)")
        .bind(handler)
        .bind(topic)
        .bind(keys)
        .fetch_all(&mut **tx)
        .await?;
    Ok(keys.into_iter().collect())
}

pub(crate) async fn admit_runs(
    tx: &mut PgTransaction<'_>,
    handler: &str,
    topic: &str,
    runs: &[&Run<'_>],
) -> sqlx::Result<Vec<AdmittedRun>> {
    sqlx::query_as(
        "select n, admitted, version, last_id, behind from outbox.admit_runs($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(handler)
    .bind(topic)
    .bind(runs.iter().map(|run| run.key).collect::<Vec<_>>())
    .bind(runs.iter().map(|run| run.first).collect::<Vec<_>>())
    .bind(runs.iter().map(|run| run.last).collect::<Vec<_>>())
    .bind(runs.iter().map(|run| run.last_id).collect::<Vec<_>>())
    .bind(runs.iter().map(|run| run.own_last).collect::<Vec<_>>())
    .fetch_all(&mut **tx)
    .await
}

/// Whether this is still the transaction that the gate began: its mark goes with it. An error when it is aborted.
pub(crate) async fn is_open(tx: &mut PgTransaction<'_>) -> sqlx::Result<bool> {
    sqlx::query_scalar("select coalesce(current_setting('outbox.gate', true) = 'open', false)")
        .fetch_one(&mut **tx)
        .await
}

/// Ends whatever transaction the connection is in, known to it or not.
pub(crate) async fn roll_back(tx: &mut PgTransaction<'_>) -> sqlx::Result<()> {
    sqlx::raw_sql("rollback").execute(&mut **tx).await?;
    Ok(())
}

/// Why an event is parked.
pub(crate) struct Parking<'a> {
    /// `early`, `refused` or `failed`.
    pub(crate) reason: &'static str,
    pub(crate) error: Option<&'a str>,
    pub(crate) parked_max: i32,
    /// Of one key; `None` where no log can be asked for what finds no room.
    pub(crate) per_key_max: Option<i32>,
}

pub(crate) async fn park(
    db: &mut PgConnection,
    handler: &str,
    event: &Envelope,
    parking: Parking<'_>,
) -> sqlx::Result<String> {
    sqlx::query_scalar("select outbox.park($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)")
        .bind(handler)
        .bind(&event.topic)
        .bind(&event.key)
        .bind(event.version)
        .bind(event.id)
        .bind(&event.payload)
        .bind(Json(&event.headers))
        .bind(parking.reason)
        .bind(parking.error)
        .bind(parking.parked_max)
        .bind(parking.per_key_max)
        .fetch_one(db)
        .await
}

/// Gives a readable event up.
pub(crate) async fn bury(
    db: &mut PgConnection,
    handler: &str,
    event: &Envelope,
    (error, attempts): (&str, i32),
) -> sqlx::Result<String> {
    sqlx::query_scalar("select outbox.bury($1, $2, $3, $4, $5, $6, $7, $8, $9)")
        .bind(handler)
        .bind(&event.topic)
        .bind(&event.key)
        .bind(event.version)
        .bind(event.id)
        .bind(&event.payload)
        .bind(Json(&event.headers))
        .bind(error)
        .bind(attempts)
        .fetch_one(db)
        .await
}

/// Gives a parked row up that can't be read any more.
pub(crate) async fn bury_parked(
    db: &mut PgConnection,
    handler: &str,
    row: &ParkedRow,
    error: &str,
) -> sqlx::Result<String> {
    sqlx::query_scalar("select outbox.bury($1, $2, $3, $4, $5, $6, $7, $8, $9)")
        .bind(handler)
        .bind(&row.topic)
        .bind(&row.key)
        .bind(row.version)
        .bind(row.id)
        .bind(&row.payload)
        .bind(&row.headers)
        .bind(error)
        .bind(row.attempts)
        .fetch_one(db)
        .await
}

pub(crate) async fn next_parked(
    db: &mut PgConnection,
    handler: &str,
    topic: &str,
    key: &str,
) -> sqlx::Result<Option<ParkedRow>> {
    sqlx::query_as("select topic, key, version, id, attempts, tries, replaced, payload, headers from outbox.next_parked($1, $2, $3)")
        .bind(handler)
        .bind(topic)
        .bind(key)
        .fetch_optional(db)
        .await
}

/// Whether an operator has put something else in the place of this event.
pub(crate) async fn is_replaced(
    tx: &mut PgTransaction<'_>,
    handler: &str,
    event: &Envelope,
) -> sqlx::Result<bool> {
    sqlx::query_scalar("select outbox.is_replaced($1, $2, $3, $4, $5, $6)")
        .bind(handler)
        .bind(&event.topic)
        .bind(&event.key)
        .bind(event.version)
        .bind(&event.payload)
        .bind(Json(&event.headers))
        .fetch_one(&mut **tx)
        .await
}

pub(crate) async fn unpark(
    tx: &mut PgTransaction<'_>,
    handler: &str,
    topic: &str,
    key: &str,
) -> sqlx::Result<i32> {
    sqlx::query_scalar("select outbox.unpark($1, $2, $3)")
        .bind(handler)
        .bind(topic)
        .bind(key)
        .fetch_one(&mut **tx)
        .await
}

pub(crate) async fn retry_later(
    db: &mut PgConnection,
    handler: &str,
    event: &Envelope,
    (reason, error): (&'static str, &str),
    delay: Duration,
) -> sqlx::Result<()> {
    sqlx::query("select outbox.retry_later($1, $2, $3, $4, $5, left($6, 2000), $7)")
        .bind(handler)
        .bind(&event.topic)
        .bind(&event.key)
        .bind(event.version)
        .bind(reason)
        .bind(error)
        .bind(interval(delay))
        .execute(db)
        .await?;
    Ok(())
}

pub(crate) async fn due(
    db: &mut PgConnection,
    handler: &str,
    batch_max: i32,
) -> sqlx::Result<Vec<(String, String)>> {
    sqlx::query_as("select topic, key from outbox.due($1, $2)")
        .bind(handler)
        .bind(batch_max)
        .fetch_all(db)
        .await
}

/// A record that no gate can take, as it came.
pub(crate) struct Unreadable<'a> {
    pub(crate) error: &'a str,
    pub(crate) message: &'a crate::Message,
}

pub(crate) async fn keep_unreadable(
    db: &mut PgConnection,
    group: &str,
    kept: Unreadable<'_>,
) -> sqlx::Result<()> {
    // PostgreSQL stores no NUL in text.
    let clean = |text: &str| text.replace('\0', "\u{fffd}");
    let headers: Headers =
        kept.message.headers.iter().map(|(name, value)| (clean(name), clean(value))).collect();
    sqlx::query("select outbox.keep_unreadable($1, $2, $3, $4, $5, $6, $7, $8)")
        .bind(group)
        .bind(&kept.message.topic)
        .bind(kept.message.partition)
        .bind(kept.message.offset)
        .bind(kept.error)
        .bind(&kept.message.key)
        .bind(&kept.message.payload)
        .bind(Json(headers))
        .execute(db)
        .await?;
    Ok(())
}
