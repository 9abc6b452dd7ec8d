//! The queue of what is not delivered, and the leases on it.

use std::time::Duration;

use sqlx::{FromRow, PgPool, postgres::types::PgInterval, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::Headers;

/// A row of the queue with its event. The event is `None` when the log has lost it, or someone has made it unreadable.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) bucket: i16,
    pub(crate) position: i64,
    pub(crate) attempts: i32,
    pub(crate) event: Option<Logged>,
}

/// An event as the log holds it.
#[derive(Debug, FromRow)]
pub(crate) struct Logged {
    pub(crate) id: Uuid,
    pub(crate) created_at: OffsetDateTime,
    pub(crate) topic: String,
    pub(crate) key: String,
    pub(crate) version: i64,
    pub(crate) kind: String,
    pub(crate) origin: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) headers: Json<Headers>,
}

impl FromRow<'_, sqlx::postgres::PgRow> for Claimed {
    fn from_row(row: &sqlx::postgres::PgRow) -> sqlx::Result<Self> {
        use sqlx::Row as _;
        Ok(Self {
            bucket: row.try_get("bucket")?,
            position: row.try_get("position")?,
            attempts: row.try_get("attempts")?,
            event: Logged::from_row(row).ok(),
        })
    }
}

/// How much one claim may take.
pub(crate) struct Room<'a> {
    /// Positions that are in flight already.
    pub(crate) in_flight: &'a [i64],
    pub(crate) per_bucket: i64,
    pub(crate) rows: i64,
    /// Payload bytes; the row that reaches it is the last.
    pub(crate) bytes: i64,
}

/// What may be sent now and was never refused: per bucket from its floor, oldest first, without what is in flight, and never a
/// row whose key has an earlier one pending.
pub(crate) async fn claim(
    pool: &PgPool,
    floors: (&[i16], &[i64]),
    room: Room<'_>,
) -> sqlx::Result<Vec<Claimed>> {
    sqlx::query_as(
        "select * from (
             select p.bucket, p.position, p.attempts,
                    e.id, e.created_at, e.topic, e.key, e.version, e.kind, e.origin, e.payload, e.headers,
                    sum(octet_length(e.payload)) over (order by p.position rows between unbounded preceding
                                                       and 1 preceding) as ahead
             from unnest($1::smallint[], $2::bigint[]) as held (bucket, floor)
             cross join lateral (
                 select q.bucket, q.position, q.created_at, q.attempts
                 from outbox.pending q
                 where q.bucket = held.bucket and q.position > held.floor and q.retry_at is null
                   and q.position <> all ($3::bigint[])
                   and not exists (
                       select from outbox.pending before
                       where before.bucket = q.bucket and before.position = q.previous)
                 order by q.position
                 limit $4
             ) p
             left join outbox.event e on e.position = p.position and e.created_at = p.created_at
         ) rows
         where coalesce(ahead, 0) < $6
         order by position limit $5",
    )
    .bind(floors.0)
    .bind(floors.1)
    .bind(room.in_flight)
    .bind(room.per_bucket)
    .bind(room.rows)
    .bind(room.bytes)
    .fetch_all(pool)
    .await
}

/// The refused row whose wait has been over for longest. A lane of its own: it must not stand in the way of the others.
pub(crate) async fn claim_refused(
    pool: &PgPool,
    buckets: &[i16],
    in_flight: &[i64],
) -> sqlx::Result<Option<Claimed>> {
    sqlx::query_as(
        "select p.bucket, p.position, p.attempts,
                e.id, e.created_at, e.topic, e.key, e.version, e.kind, e.origin, e.payload, e.headers
         from (
             select due.* from unnest($1::smallint[]) as held (bucket)
             cross join lateral (
                 select q.bucket, q.position, q.created_at, q.attempts, q.retry_at
                 from outbox.pending q
                 where q.bucket = held.bucket and q.retry_at <= now() and q.position <> all ($2::bigint[])
                 order by q.retry_at
                 limit 1
             ) due
             order by due.retry_at
             limit 1
         ) p
         left join outbox.event e on e.position = p.position and e.created_at = p.created_at",
    )
    .bind(buckets)
    .bind(in_flight)
    .fetch_optional(pool)
    .await
}

/// For each bucket, a position below which nothing fresh is pending now: just under its first row, or under the last position
/// drawn. Scans each bucket from its beginning, so it also finds rows that committed late.
pub(crate) async fn floors(pool: &PgPool, buckets: &[i16]) -> sqlx::Result<Vec<(i16, i64)>> {
    sqlx::query_as(
        "select held.bucket, coalesce(first.position - 1, drawn.last_value)
         from unnest($1::smallint[]) as held (bucket)
         cross join (select last_value from outbox.position) drawn
         left join lateral (
             select q.position from outbox.pending q
             where q.bucket = held.bucket and q.retry_at is null order by q.position limit 1
         ) first on true",
    )
    .bind(buckets)
    .fetch_all(pool)
    .await
}

/// Forgets delivered rows, and notes when.
pub(crate) async fn remove(pool: &PgPool, buckets: &[i16], positions: &[i64]) -> sqlx::Result<()> {
    sqlx::query(
        "with gone as (
             delete from outbox.pending p
             using unnest($1::smallint[], $2::bigint[]) as delivered (bucket, position)
             where p.bucket = delivered.bucket and p.position = delivered.position
             returning p.position
         )
         insert into outbox.sent (at, positions)
         select clock_timestamp(), array_agg(gone.position) from gone having count(*) > 0",
    )
    .bind(buckets)
    .bind(positions)
    .execute(pool)
    .await?;
    Ok(())
}

/// Refused rows, column by column.
#[derive(Default)]
pub(crate) struct Refusals {
    pub(crate) buckets: Vec<i16>,
    pub(crate) positions: Vec<i64>,
    pub(crate) errors: Vec<String>,
    /// Seconds until each may be tried again.
    pub(crate) delays: Vec<f64>,
}

/// Notes refusals; the rows stay, and with them the rest of their keys.
pub(crate) async fn refuse(pool: &PgPool, refusals: &Refusals) -> sqlx::Result<()> {
    sqlx::query(
        "update outbox.pending p
         set attempts = p.attempts + 1, error = left(r.error, 2000),
             retry_at = clock_timestamp() + make_interval(secs => r.delay)
         from unnest($1::smallint[], $2::bigint[], $3::text[], $4::double precision[])
             as r (bucket, position, error, delay)
         where p.bucket = r.bucket and p.position = r.position",
    )
    .bind(&refusals.buckets)
    .bind(&refusals.positions)
    .bind(&refusals.errors)
    .bind(&refusals.delays)
    .execute(pool)
    .await?;
    Ok(())
}

pub(crate) async fn lease(pool: &PgPool, relay: Uuid, ttl: Duration) -> sqlx::Result<Vec<i16>> {
    sqlx::query_scalar("select outbox.lease($1, $2)").bind(relay).bind(interval(ttl)).fetch_all(pool).await
}

pub(crate) async fn release(pool: &PgPool, relay: Uuid) -> sqlx::Result<()> {
    sqlx::query("select outbox.release($1)").bind(relay).execute(pool).await?;
    Ok(())
}

/// Durations here are bounded by options of seconds to minutes, so the conversion can't fail in earnest.
pub(crate) fn interval(duration: Duration) -> PgInterval {
    let microseconds = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    PgInterval { months: 0, days: 0, microseconds }
}
