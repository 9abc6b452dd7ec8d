//! How much waits, for the gauges. Read every few seconds, so each statement has a bound of its own.

use sqlx::{FromRow, PgExecutor};

/// What waits in the queue.
#[derive(Debug, FromRow)]
pub(crate) struct Waiting {
    /// Of the oldest event that may still be sent; `None` when there is none.
    pub(crate) oldest_age_s: Option<f64>,
    /// At most 1,000,000: a longer queue needs no exact number.
    pub(crate) pending: i64,
    pub(crate) quarantined: i64,
    /// That nobody has discarded.
    pub(crate) unreadable: i64,
    /// Days after today that the log has without a hole, at most 30.
    pub(crate) days_ahead: i64,
}

/// The first row of each bucket is its oldest, or within a transaction's length of it.
pub(crate) async fn waiting(db: impl PgExecutor<'_>) -> sqlx::Result<Waiting> {
    sqlx::query_as(
        "select (
             select extract(epoch from clock_timestamp() - min(first.created_at))::double precision
             from generate_series(0, 63) as buckets (bucket)
             cross join lateral (
                 select q.created_at from outbox.pending q
                 where q.bucket = buckets.bucket and q.quarantined_at is null order by q.position limit 1
             ) first
         ) as oldest_age_s,
         (select count(*) from (select from outbox.pending p where p.quarantined_at is null limit 1000000) counted) as pending,
         (select count(*) from (select from outbox.pending p where p.quarantined_at is not null limit 1000000) counted)
             as quarantined,
         (select count(*) from (select from outbox.unreadable u where u.discarded_at is null limit 1000000) counted)
             as unreadable,
         (select min(n) - 1 from generate_series(1, 31) as ahead (n)
          where n = 31 or not exists (
              select from pg_inherits i
              where i.inhparent = to_regclass('outbox.event') and not i.inhdetachpending
                and i.inhrelid = to_regclass('outbox.event_'
                    || to_char((clock_timestamp() at time zone 'UTC')::date + n, 'YYYYMMDD')))
         )::bigint as days_ahead",
    )
    .fetch_one(db)
    .await
}

/// What waits in front of a handler.
#[derive(Debug, FromRow)]
pub(crate) struct InFront {
    pub(crate) handler: String,
    pub(crate) parked: i64,
    pub(crate) dead: i64,
    /// Keys of which events are missing or found no room; at most 1,000,000 are looked at.
    pub(crate) incomplete: i64,
    /// Keys of a replica that wait for a snapshot; at most 1,000,000.
    pub(crate) awaiting: i64,
}

/// A key that its cursor has passed misses nothing, though its row may still be there. Each is looked up by its key: a join with
/// all cursors might be planned.
pub(crate) async fn held_back(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<InFront>> {
    sqlx::query_as(
        "select h.name as handler,
                (select count(*) from outbox.parked p where p.handler = h.name) as parked,
                (select count(*) from outbox.dead_letter d where d.handler = h.name) as dead,
                (select count(*) from (select o.* from outbox.overflow o where o.handler = h.name limit 1000000) o
                 where o.version > coalesce((select c.version from outbox.cursor c
                     where c.handler = o.handler and c.topic = o.topic and c.key = o.key), 0)) as incomplete,
                (select count(*) from (select from outbox.cursor c where c.handler = h.name and c.awaiting_snapshot
                                       limit 1000000) a) as awaiting
         from outbox.handler h order by h.name",
    )
    .fetch_all(db)
    .await
}
