//! Gaps, and the log that fills them.

use std::time::Duration;

use sqlx::{FromRow, PgConnection, PgPool, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Logged, lease::interval};
use crate::Headers;

/// What a key misses.
#[derive(Debug, FromRow)]
pub(crate) struct Gap {
    pub(crate) topic: String,
    pub(crate) key: String,
    /// The cursor's version.
    pub(crate) after: i64,
    /// The event applied there; `None` at 0.
    pub(crate) last_id: Option<Uuid>,
    /// The last missing version.
    pub(crate) until: i64,
    /// The event kept at `until + 1`, if one is.
    pub(crate) next_id: Option<Uuid>,
    /// How often the log was asked in vain.
    pub(crate) attempts: i32,
    /// Of what is missing, how many events came and found no room.
    pub(crate) events: i64,
    /// The key goes on from a snapshot only.
    pub(crate) awaiting: bool,
}

pub(crate) async fn gaps(
    db: &mut PgConnection,
    handler: &str,
    gap_after: Duration,
    batch_max: i32,
) -> sqlx::Result<Vec<Gap>> {
    sqlx::query_as(
        "select topic, key, after, last_id, until, next_id, attempts, events, awaiting from outbox.gaps($1, $2, $3)",
    )
    .bind(handler)
    .bind(interval(gap_after))
    .bind(batch_max)
    .fetch_all(db)
    .await
}

/// How many events that had come are passed by now, and were not had from the log.
pub(crate) async fn forget_gaps(db: &mut PgConnection, handler: &str) -> sqlx::Result<i64> {
    sqlx::query_scalar("select outbox.forget_gaps($1)").bind(handler).fetch_one(db).await
}

/// Keys of which events are missing or found no room.
pub(crate) async fn incomplete(db: &mut PgConnection, handler: &str) -> sqlx::Result<i64> {
    sqlx::query_scalar("select outbox.incomplete($1)").bind(handler).fetch_one(db).await
}

/// `error` is `None` when the log gave events; `dealt` of those had come and found no room. How many of them were still to be
/// counted.
pub(crate) async fn note_gap(
    db: &mut PgConnection,
    handler: &str,
    gap: &Gap,
    (error, delay, dealt): (Option<&str>, Duration, i64),
) -> sqlx::Result<i64> {
    sqlx::query_scalar("select outbox.note_gap($1, $2, $3, $4, $5, $6)")
        .bind(handler)
        .bind(&gap.topic)
        .bind(&gap.key)
        .bind(error)
        .bind(interval(delay))
        .bind(dealt)
        .fetch_one(db)
        .await
}

pub(crate) async fn note_conflict(
    db: &mut PgConnection,
    handler: &str,
    gap: &Gap,
    (version, known, other): (i64, Uuid, Uuid),
) -> sqlx::Result<()> {
    sqlx::query("select outbox.note_conflict($1, $2, $3, $4, $5, $6)")
        .bind(handler)
        .bind(&gap.topic)
        .bind(&gap.key)
        .bind(version)
        .bind(known)
        .bind(other)
        .execute(db)
        .await?;
    Ok(())
}

#[derive(FromRow)]
struct Found {
    id: Uuid,
    created_at: OffsetDateTime,
    version: i64,
    kind: String,
    origin: String,
    payload: Vec<u8>,
    headers: Json<Headers>,
}

/// Delivered events of a key, versions after the first until the second.
pub(crate) async fn log_of(
    pool: &PgPool,
    (topic, key): (&str, &str),
    (after, until): (i64, i64),
    events_max: i64,
) -> sqlx::Result<Vec<Logged>> {
    let found: Vec<Found> = sqlx::query_as(
        "select id, created_at, version, kind, origin, payload, headers from outbox.log_of($1, $2, $3, $4, $5)",
    )
    .bind(topic)
    .bind(key)
    .bind(after)
    .bind(until)
    .bind(i32::try_from(events_max).unwrap_or(i32::MAX))
    .fetch_all(pool)
    .await?;
    let logged = |f: Found| Logged {
        id: f.id,
        created_at: f.created_at,
        topic: topic.to_owned(),
        key: key.to_owned(),
        version: f.version,
        kind: f.kind,
        origin: f.origin,
        payload: f.payload,
        headers: f.headers,
    };
    Ok(found.into_iter().map(logged).collect())
}

pub(crate) async fn grant_refill(pool: &PgPool, role: &str) -> sqlx::Result<()> {
    sqlx::query("select outbox.grant_refill($1::name)").bind(role).execute(pool).await?;
    Ok(())
}
