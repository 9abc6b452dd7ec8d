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

/// Each handler with what is parked and what is dead in front of it.
pub(crate) async fn held_back(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<(String, i64, i64)>> {
    sqlx::query_as(
        "select h.name,
                (select count(*) from outbox.parked p where p.handler = h.name),
                (select count(*) from outbox.dead_letter d where d.handler = h.name)
         from outbox.handler h order by h.name",
    )
    .fetch_all(db)
    .await
}
