//! What the doctor asks. Reads only; catalogs where they suffice, so that a role with few rights gets an answer too.

use std::time::Duration;

use sqlx::{FromRow, PgPool};
use time::OffsetDateTime;

use super::lease::interval;

/// Whether the tables are there, and whether their version is noted.
pub(crate) async fn has_schema(pool: &PgPool) -> sqlx::Result<(bool, bool)> {
    sqlx::query_as(
        "select coalesce(bool_or(c.relname = 'event'), false), coalesce(bool_or(c.relname = '_migrations'), false)
         from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where n.nspname = 'outbox' and c.relname in ('event', '_migrations')",
    )
    .fetch_one(pool)
    .await
}

/// The last migration that was applied whole.
pub(crate) async fn schema_version(pool: &PgPool) -> sqlx::Result<i64> {
    sqlx::query_scalar("select coalesce(max(version), 0) from outbox._migrations where success")
        .fetch_one(pool)
        .await
}

/// What the pool's role lacks of what a grant function gives. The function's own text says what that is, so that the two
/// can't differ: names before a parenthesis are functions, the others tables and sequences.
pub(crate) async fn missing_rights(pool: &PgPool, grant: &str) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(
        "with given as (
             select distinct m[1] as name, m[2] = '(' as is_function
             from pg_proc f join pg_namespace n on n.oid = f.pronamespace
             cross join lateral regexp_matches(f.prosrc, 'outbox\\.([a-z_0-9]+)(\\(|)', 'g') m
             where n.nspname = 'outbox' and f.proname = $1
         ),
         ours as (select oid from pg_namespace where nspname = 'outbox')
         select 'usage of schema outbox' where not exists (select from ours)
             or not has_schema_privilege((select oid from ours), 'usage')
         union all
         select 'outbox.' || g.name || '()' from given g
         where g.is_function and not exists (
             select from pg_proc p
             where p.pronamespace = (select oid from ours) and p.proname = g.name and has_function_privilege(p.oid, 'execute'))
         union all
         select 'outbox.' || g.name from given g
         join pg_class c on c.relname = g.name and c.relnamespace = (select oid from ours) and c.relkind in ('r', 'p', 'S')
         where not g.is_function and g.name <> 'origin'
           and not case when c.relkind = 'S' then has_sequence_privilege(c.oid, 'select')
                        when g.name = 'pending' then has_table_privilege(c.oid, 'select')
                            and has_table_privilege(c.oid, 'update') and has_table_privilege(c.oid, 'delete')
                        else has_table_privilege(c.oid, 'select') end
         order by 1",
    )
    .bind(grant)
    .fetch_all(pool)
    .await
}

/// Whether the pool's role may publish to a topic. Tried for real, and undone.
pub(crate) async fn try_topic(pool: &PgPool, topic: &str) -> sqlx::Result<()> {
    let mut tx = pool.begin().await?;
    sqlx::query("select outbox.lock($1, 'outbox.doctor')").bind(topic).execute(&mut *tx).await?;
    tx.rollback().await
}

/// The days of the log.
#[derive(Debug, FromRow)]
pub(crate) struct Partitions {
    pub(crate) today_missing: bool,
    /// Without a hole, counted from tomorrow.
    pub(crate) days_ahead: i64,
    /// Age of the oldest day in days.
    pub(crate) oldest_days: i64,
    /// Left by a detach that was interrupted.
    pub(crate) detaching: i64,
}

pub(crate) async fn partitions(pool: &PgPool) -> sqlx::Result<Partitions> {
    sqlx::query_as(
        "with part as (
             select to_date(right(c.relname, 8), 'YYYYMMDD') as day, i.inhdetachpending as detaching
             from pg_inherits i
             join pg_class c on c.oid = i.inhrelid
             join pg_class l on l.oid = i.inhparent
             join pg_namespace n on n.oid = l.relnamespace
             where n.nspname = 'outbox' and l.relname = 'event' and c.relname ~ '^event_[0-9]{8}$'
         ),
         today as (select (clock_timestamp() at time zone 'UTC')::date as day)
         select not exists (select from part where part.day = today.day and not detaching) as today_missing,
                (select count(*) from generate_series(1, 60) n
                 where not exists (
                     select from generate_series(1, n) m
                     where not exists (select from part where part.day = today.day + m and not detaching))) as days_ahead,
                coalesce((select today.day - min(part.day) from part), 0)::bigint as oldest_days,
                (select count(*) from part where detaching) as detaching
         from today",
    )
    .fetch_one(pool)
    .await
}

/// What is not delivered.
#[derive(Debug, FromRow)]
pub(crate) struct Delivery {
    /// Age of the oldest event that waits for nobody; 0 without one.
    pub(crate) oldest_s: f64,
    pub(crate) refused: i64,
    /// What the broker said last.
    pub(crate) error: String,
    pub(crate) quarantined: i64,
}

/// The first fresh row of each bucket is its oldest, or within a transaction's length of it; counts stop at a million.
pub(crate) async fn delivery(pool: &PgPool) -> sqlx::Result<Delivery> {
    sqlx::query_as(
        "select coalesce((
             select extract(epoch from clock_timestamp() - min(first.created_at))
             from generate_series(0, 63) as buckets (bucket)
             cross join lateral (
                 select q.created_at from outbox.pending q
                 where q.bucket = buckets.bucket and q.retry_at is null order by q.position limit 1
             ) first), 0)::double precision as oldest_s,
             count(*) filter (where not held.quarantined) as refused,
             coalesce((array_agg(held.error order by held.position desc))[1], '') as error,
             count(*) filter (where held.quarantined) as quarantined
         from (
             (select p.position, p.error, false as quarantined from outbox.pending p
              where p.retry_at is not null and p.quarantined_at is null limit 1000000)
             union all
             (select p.position, p.error, true from outbox.pending p where p.quarantined_at is not null limit 1000000)
         ) held",
    )
    .fetch_one(pool)
    .await
}

/// Relays seen within a minute, whether anything waits to be sent, and how many buckets belong to none of them.
pub(crate) async fn relays(pool: &PgPool) -> sqlx::Result<(i64, bool, i64)> {
    sqlx::query_as(
        "select (select count(*) from outbox.relay r where r.seen_at > clock_timestamp() - interval '1 minute'),
                exists (select from outbox.pending),
                (select count(*) from outbox.lease l where l.expires_at < clock_timestamp())",
    )
    .fetch_one(pool)
    .await
}

/// What waits in front of handlers.
#[derive(Debug, FromRow)]
pub(crate) struct HeldBack {
    pub(crate) dead: i64,
    pub(crate) refused: i64,
    pub(crate) gaps: i64,
    pub(crate) unreadable: i64,
    pub(crate) conflicts: i64,
    pub(crate) awaiting: i64,
}

/// Each count stops at a million. A gap is what a log is to be asked for, and what nothing of for `gap_age` has been seen of while a
/// later event of its key waits: without a refill nobody notes that.
pub(crate) async fn held_back_counts(pool: &PgPool, gap_age: Duration) -> sqlx::Result<HeldBack> {
    sqlx::query_as(
        "select
             (select count(*) from (select from outbox.dead_letter limit 1000000) d) as dead,
             (select count(*) from (select from outbox.parked where reason <> 'early' limit 1000000) p) as refused,
             (select count(*) from (
                  (select o.handler, o.topic, o.key from outbox.overflow o limit 1000000)
                  union
                  (select p.handler, p.topic, p.key from outbox.parked p
                   join outbox.cursor c on c.handler = p.handler and c.topic = p.topic and c.key = p.key
                   where p.reason = 'early' and p.parked_at < clock_timestamp() - $1 and p.version > c.version + 1
                     and not c.awaiting_snapshot
                     and not exists (select from outbox.parked n where n.handler = p.handler and n.topic = p.topic
                                         and n.key = p.key and n.version = c.version + 1)
                     and not exists (select from outbox.dead_letter d where d.handler = p.handler and d.topic = p.topic
                                         and d.key = p.key and d.version = c.version + 1)
                   limit 1000000)
              ) gaps) as gaps,
             (select count(*) from (select from outbox.unreadable where discarded_at is null limit 1000000) u) as unreadable,
             (select count(*) from (select from outbox.conflict where settled_at is null limit 1000000) c) as conflicts,
             (select count(*) from (select from outbox.cursor where awaiting_snapshot limit 1000000) a) as awaiting",
    )
    .bind(interval(gap_age))
    .fetch_one(pool)
    .await
}

/// Per handler and topic, how many of the last 1,000 events of this log that were delivered at least `age` ago it has not
/// passed. One that began `now` need not have the events from before, where it has no cursor.
pub(crate) async fn handlers_behind(
    pool: &PgPool,
    age: Duration,
) -> sqlx::Result<Vec<(String, String, i64)>> {
    sqlx::query_as(
        "with recent as (
             select e.topic, e.key, e.version, e.created_at from outbox.event e
             where e.created_at < clock_timestamp() - $1 and e.created_at > clock_timestamp() - $1 - interval '2 days'
               and not exists (select from outbox.pending p where p.bucket = e.bucket and p.position = e.position)
             order by e.position desc limit 1000
         )
         select reads.handler, reads.topic, count(*)
         from (select distinct w.handler, w.topic from outbox.reader w where w.missed_from is null) reads
         join outbox.baseline b on b.handler = reads.handler and b.topic = reads.topic
         join recent r on r.topic = reads.topic
         left join outbox.cursor c on c.handler = reads.handler and c.topic = r.topic and c.key = r.key
         left join outbox.archived_cursor a on a.handler = reads.handler and a.topic = r.topic and a.key = r.key
         where coalesce(c.version, a.version, 0) < r.version
           and (b.kind <> 'now' or c.key is not null or a.key is not null or r.created_at > b.set_at)
         group by reads.handler, reads.topic order by reads.handler, reads.topic",
    )
    .bind(interval(age))
    .fetch_all(pool)
    .await
}

/// What a commit is worth here.
#[derive(Debug, FromRow)]
pub(crate) struct ServerSettings {
    pub(crate) fsync: String,
    pub(crate) full_page_writes: String,
    pub(crate) synchronous_commit: String,
    pub(crate) idle_in_transaction: String,
}

pub(crate) async fn server_settings(pool: &PgPool) -> sqlx::Result<ServerSettings> {
    sqlx::query_as(
        "select current_setting('fsync') as fsync, current_setting('full_page_writes') as full_page_writes,
                current_setting('synchronous_commit') as synchronous_commit,
                current_setting('idle_in_transaction_session_timeout') as idle_in_transaction",
    )
    .fetch_one(pool)
    .await
}

/// What holds vacuum back.
pub(crate) struct Horizon {
    /// Whether the role may see other roles' transactions.
    pub(crate) sees_all: bool,
    /// The oldest transaction over the bound: its backend and age in seconds.
    pub(crate) transaction: Option<(i32, f64)>,
    /// The oldest prepared one over the bound.
    pub(crate) prepared: Option<(String, f64)>,
    pub(crate) idle_slots: Vec<String>,
}

pub(crate) async fn horizon(pool: &PgPool, age: Duration) -> sqlx::Result<Horizon> {
    let sees_all = sqlx::query_scalar("select pg_has_role('pg_read_all_stats', 'usage')");
    let transaction = sqlx::query_as(
        "select pid, extract(epoch from clock_timestamp() - xact_start)::double precision from pg_stat_activity
         where xact_start < clock_timestamp() - $1 and backend_type = 'client backend'
           and datname = current_database()
         order by xact_start limit 1",
    );
    let prepared = sqlx::query_as(
        "select gid, extract(epoch from clock_timestamp() - prepared)::double precision from pg_prepared_xacts
         where prepared < clock_timestamp() - $1 and database = current_database() order by prepared limit 1",
    );
    let idle_slots =
        sqlx::query_scalar("select slot_name::text from pg_replication_slots where not active order by 1");
    Ok(Horizon {
        sees_all: sees_all.fetch_one(pool).await?,
        transaction: transaction.bind(interval(age)).fetch_optional(pool).await?,
        prepared: prepared.bind(interval(age)).fetch_optional(pool).await?,
        idle_slots: idle_slots.fetch_all(pool).await?,
    })
}

/// How the queue is vacuumed.
#[derive(Debug, FromRow)]
pub(crate) struct QueueVacuum {
    pub(crate) enabled: bool,
    /// The settings of migration 1 are in force.
    pub(crate) eager: bool,
    pub(crate) dead_rows: i64,
}

pub(crate) async fn queue_vacuum(pool: &PgPool) -> sqlx::Result<QueueVacuum> {
    sqlx::query_as(
        "select current_setting('autovacuum')::boolean
                and not coalesce(c.reloptions && '{autovacuum_enabled=false,autovacuum_enabled=off}', false) as enabled,
                coalesce(c.reloptions @> '{autovacuum_vacuum_scale_factor=0.02,autovacuum_vacuum_cost_delay=0}', false)
                as eager,
                coalesce(pg_stat_get_dead_tuples(c.oid), 0) as dead_rows
         from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where n.nspname = 'outbox' and c.relname = 'pending'",
    )
    .fetch_one(pool)
    .await
}

/// The database's clock.
pub(crate) async fn now(pool: &PgPool) -> sqlx::Result<OffsetDateTime> {
    sqlx::query_scalar("select clock_timestamp()").fetch_one(pool).await
}
