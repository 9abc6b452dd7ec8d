//! Days of the logs: which there are, what needs them, and how they go.

use std::time::Duration;

use sqlx::{AssertSqlSafe, FromRow, PgConnection, PgPool};
use time::Date;

/// One day of one log.
#[derive(Debug, Clone, FromRow)]
pub(crate) struct Day {
    /// `event` or `sent`.
    pub(crate) log: String,
    pub(crate) day: Date,
    /// Its table, in schema `outbox`: the log's name, `_`, eight digits.
    pub(crate) name: String,
    /// `attached`; `detaching`, when a detach was interrupted; `detached`, when its drop was.
    pub(crate) state: String,
}

/// All days, oldest first; one that is neither attached nor detached entirely comes before all.
pub(crate) async fn days(connection: &mut PgConnection) -> sqlx::Result<Vec<Day>> {
    sqlx::query_as(
        r"select split_part(c.relname, '_', 1) as log, to_date(split_part(c.relname, '_', 2), 'YYYYMMDD') as day,
                 c.relname::text as name,
                 case when i.inhrelid is null then 'detached' when i.inhdetachpending then 'detaching' else 'attached' end
                     as state
          from pg_class c left join pg_inherits i on i.inhrelid = c.oid
          where c.relnamespace = to_regnamespace('outbox') and c.relkind = 'r' and c.relname ~ '^(event|sent)_\d{8}$'
          order by i.inhdetachpending desc nulls last, c.relname",
    )
    .fetch_all(connection)
    .await
}

/// The first day that is kept, by the database's clock: days are those of UTC.
pub(crate) async fn keep_from(pool: &PgPool, keep_days: i32) -> sqlx::Result<Date> {
    sqlx::query_scalar("select (clock_timestamp() at time zone 'UTC')::date - $1")
        .bind(keep_days)
        .fetch_one(pool)
        .await
}

/// Whether this role owns the logs, by itself or as a member.
pub(crate) async fn owns_logs(connection: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "select bool_and(pg_has_role(c.relowner, 'usage')) from pg_class c
         where c.oid in (to_regclass('outbox.event'), to_regclass('outbox.sent'))",
    )
    .fetch_one(connection)
    .await
}

/// Bounds every wait for a lock in this session, and with it every `detach`.
pub(crate) async fn bound_lock_waits(connection: &mut PgConnection, most: Duration) -> sqlx::Result<()> {
    sqlx::query("select set_config('lock_timeout', $1, false)")
        .bind(format!("{}ms", most.as_millis()))
        .execute(connection)
        .await?;
    Ok(())
}

/// Takes the lock that retention and replays share, for the session. False when somebody has it.
pub(crate) async fn try_retention_lock(connection: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::query_scalar("select pg_try_advisory_lock(hashtext('outbox.retention'))")
        .fetch_one(connection)
        .await
}

/// Why a day may not be dropped.
pub(crate) async fn needed(connection: &mut PgConnection, day: &Day) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar("select outbox.needed($1, $2)")
        .bind(&day.log)
        .bind(day.day)
        .fetch_one(connection)
        .await
}

pub(crate) async fn make_partition(connection: &mut PgConnection, day: &Day) -> sqlx::Result<bool> {
    sqlx::query_scalar("select outbox.make_partition($1, $2)")
        .bind(&day.log)
        .bind(day.day)
        .fetch_one(connection)
        .await
}

/// Takes a day out of its log while publishers go on; waits for those that began before. Not in a transaction.
pub(crate) async fn detach(connection: &mut PgConnection, day: &Day) -> sqlx::Result<()> {
    let Day { log, name, .. } = day;
    sqlx::query(AssertSqlSafe(format!(
        "alter table outbox.{log} detach partition outbox.{name} concurrently"
    )))
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends a detach that was interrupted; there can be no other before.
pub(crate) async fn finalize(connection: &mut PgConnection, day: &Day) -> sqlx::Result<()> {
    let Day { log, name, .. } = day;
    sqlx::query(AssertSqlSafe(format!("alter table outbox.{log} detach partition outbox.{name} finalize")))
        .execute(connection)
        .await?;
    Ok(())
}

pub(crate) async fn drop_day(connection: &mut PgConnection, day: &Day) -> sqlx::Result<()> {
    sqlx::query(AssertSqlSafe(format!("drop table outbox.{}", day.name))).execute(connection).await?;
    Ok(())
}
