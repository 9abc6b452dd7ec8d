//! Replays.

use sqlx::{FromRow, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use super::queue::Logged;

/// What a replay is asked for; nulls as `outbox.ask_replay` takes them.
#[derive(Default)]
pub(crate) struct Asked<'a> {
    pub(crate) topic: &'a str,
    pub(crate) key: Option<&'a str>,
    pub(crate) since: Option<OffsetDateTime>,
    pub(crate) until: Option<OffsetDateTime>,
    pub(crate) first: Option<i64>,
    pub(crate) last: Option<i64>,
    pub(crate) handler: Option<&'a str>,
}

/// An event of a replay.
pub(crate) struct Replayed {
    pub(crate) position: i64,
    /// Not delivered a first time yet.
    pub(crate) pending: bool,
    pub(crate) event: Logged,
}

impl FromRow<'_, sqlx::postgres::PgRow> for Replayed {
    fn from_row(row: &sqlx::postgres::PgRow) -> sqlx::Result<Self> {
        use sqlx::Row as _;
        Ok(Self {
            position: row.try_get("last_position")?,
            pending: row.try_get("pending")?,
            event: Logged::from_row(row)?,
        })
    }
}

pub(crate) async fn ask_replay(
    pool: &PgPool,
    asked: &Asked<'_>,
    (actor, reason): (&str, &str),
) -> sqlx::Result<i64> {
    sqlx::query_scalar("select outbox.ask_replay($1, $2, $3, $4, $5, $6, $7, $8, $9)")
        .bind(asked.topic)
        .bind(asked.key)
        .bind(asked.since)
        .bind(asked.until)
        .bind(asked.first)
        .bind(asked.last)
        .bind(asked.handler)
        .bind(actor)
        .bind(reason)
        .fetch_one(pool)
        .await
}

pub(crate) async fn ask_replay_of_letter(
    pool: &PgPool,
    letter: Uuid,
    (actor, reason): (&str, &str),
) -> sqlx::Result<i64> {
    sqlx::query_scalar("select outbox.ask_replay_of_letter($1, $2, $3)")
        .bind(letter)
        .bind(actor)
        .bind(reason)
        .fetch_one(pool)
        .await
}

pub(crate) async fn replay(pool: &PgPool, id: i64) -> sqlx::Result<Option<crate::replay::Replay>> {
    sqlx::query_as("select r.* from outbox.replay r where r.id = $1").bind(id).fetch_optional(pool).await
}

pub(crate) async fn replays(pool: &PgPool, limit: i64) -> sqlx::Result<Vec<crate::replay::Replay>> {
    sqlx::query_as("select r.* from outbox.replay r order by r.id desc limit $1")
        .bind(limit)
        .fetch_all(pool)
        .await
}

/// Replays that may be gone on with, oldest first.
pub(crate) async fn open_replays(pool: &PgPool, most: i64) -> sqlx::Result<Vec<crate::replay::Replay>> {
    sqlx::query_as(
        "select r.* from outbox.replay r
         where r.ended_at is null and r.touched_at > clock_timestamp() - interval '1 day' order by r.id limit $1",
    )
    .bind(most)
    .fetch_all(pool)
    .await
}

pub(crate) async fn replay_batch(pool: &PgPool, id: i64, events_max: i32) -> sqlx::Result<Vec<Replayed>> {
    sqlx::query_as(
        "select b.last_position, b.pending, b.event_id as id, b.created_at, b.topic, b.key, b.version, b.kind, b.origin,
                b.payload, b.headers
         from outbox.replay_batch($1, $2) b",
    )
    .bind(id)
    .bind(events_max)
    .fetch_all(pool)
    .await
}

/// False when somebody else has gone on from `before` meanwhile. `after` none: it has ended.
pub(crate) async fn note_replay(
    pool: &PgPool,
    id: i64,
    (before, after): (i64, Option<i64>),
    (delivered, passed): (i64, i64),
) -> sqlx::Result<bool> {
    sqlx::query_scalar("select outbox.note_replay($1, $2, $3, $4, $5)")
        .bind(id)
        .bind(before)
        .bind(after)
        .bind(delivered)
        .bind(passed)
        .fetch_one(pool)
        .await
}

/// How many events were looked at; none when the handler has no room for more.
pub(crate) async fn redeliver_batch(
    pool: &PgPool,
    id: i64,
    events_max: i32,
    parked_max: i32,
) -> sqlx::Result<Option<i32>> {
    sqlx::query_scalar("select outbox.redeliver_batch($1, $2, $3)")
        .bind(id)
        .bind(events_max)
        .bind(parked_max)
        .fetch_one(pool)
        .await
}

pub(crate) async fn cancel_replay(
    pool: &PgPool,
    id: i64,
    (actor, reason): (&str, &str),
) -> sqlx::Result<bool> {
    sqlx::query_scalar("select outbox.cancel_replay($1, $2, $3)")
        .bind(id)
        .bind(actor)
        .bind(reason)
        .fetch_one(pool)
        .await
}

pub(crate) async fn rewind(
    pool: &PgPool,
    handler: &str,
    (topic, key): (&str, &str),
    version: i64,
    (actor, reason): (&str, &str),
) -> sqlx::Result<i32> {
    sqlx::query_scalar("select outbox.rewind($1, $2, $3, $4, $5, $6)")
        .bind(handler)
        .bind(topic)
        .bind(key)
        .bind(version)
        .bind(actor)
        .bind(reason)
        .fetch_one(pool)
        .await
}
