//! What is known of one key.

use sqlx::{FromRow, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

/// Notes of deliveries looked through for one event, from its publication on.
const NOTES_MAX: i64 = 100_000;

#[derive(FromRow)]
pub(crate) struct HeadRow {
    pub(crate) version: i64,
    pub(crate) archived: bool,
}

pub(crate) async fn head_of(pool: &PgPool, topic: &str, key: &str) -> sqlx::Result<Option<HeadRow>> {
    sqlx::query_as(
        "select h.version, false as archived from outbox.head h where h.topic = $1 and h.key = $2
         union all
         select a.version, true from outbox.archived_head a where a.topic = $1 and a.key = $2
         order by archived limit 1",
    )
    .bind(topic)
    .bind(key)
    .fetch_optional(pool)
    .await
}

#[derive(FromRow)]
pub(crate) struct StepRow {
    pub(crate) version: i64,
    pub(crate) id: Uuid,
    pub(crate) kind: String,
    pub(crate) origin: String,
    pub(crate) created_at: OffsetDateTime,
    pub(crate) pending: bool,
    pub(crate) attempts: Option<i32>,
    pub(crate) error: Option<String>,
    pub(crate) sent_at: Option<OffsetDateTime>,
}

/// The last `most` events of a key, the oldest of them first.
pub(crate) async fn steps(pool: &PgPool, topic: &str, key: &str, most: i32) -> sqlx::Result<Vec<StepRow>> {
    sqlx::query_as(
        "select e.version, e.id, e.kind, e.origin, e.created_at,
                p.position is not null as pending, p.attempts, p.error, noted.at as sent_at
         from outbox.chain($1, $2, 0, $3) c
         cross join lateral (
             select f.* from outbox.event f where f.position = c.at_position and f.created_at = c.at_time limit 1
         ) e
         left join outbox.pending p on p.bucket = e.bucket and p.position = e.position
         left join lateral (
             select n.at from (
                 select s.at, s.positions from outbox.sent s where s.at >= e.created_at order by s.at limit $4
             ) n
             where p.position is null and e.position = any (n.positions)
             order by n.at limit 1
         ) noted on true
         order by e.version",
    )
    .bind(topic)
    .bind(key)
    .bind(most)
    .bind(NOTES_MAX)
    .fetch_all(pool)
    .await
}

#[derive(FromRow)]
pub(crate) struct ReachedRow {
    pub(crate) handler: String,
    pub(crate) version: i64,
    pub(crate) applied_at: Option<OffsetDateTime>,
}

pub(crate) async fn reached(pool: &PgPool, topic: &str, key: &str) -> sqlx::Result<Vec<ReachedRow>> {
    sqlx::query_as(
        "select c.handler, c.version, c.applied_at from outbox.cursor c where c.topic = $1 and c.key = $2
         union all
         select a.handler, a.version, a.applied_at from outbox.archived_cursor a where a.topic = $1 and a.key = $2
         order by handler",
    )
    .bind(topic)
    .bind(key)
    .fetch_all(pool)
    .await
}

#[derive(FromRow)]
pub(crate) struct WaitingRow {
    pub(crate) handler: String,
    pub(crate) version: i64,
    pub(crate) why: String,
    pub(crate) error: Option<String>,
    pub(crate) since: OffsetDateTime,
}

pub(crate) async fn waiting_of(pool: &PgPool, topic: &str, key: &str) -> sqlx::Result<Vec<WaitingRow>> {
    sqlx::query_as(
        "select p.handler, p.version, p.reason as why, p.error, p.parked_at as since
         from outbox.parked p where p.topic = $1 and p.key = $2
         union all
         select d.handler, d.version, 'dead', d.error, d.buried_at
         from outbox.dead_letter d where d.topic = $1 and d.key = $2
         order by handler, version",
    )
    .bind(topic)
    .bind(key)
    .fetch_all(pool)
    .await
}
