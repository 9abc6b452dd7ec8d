//! What the benchmark asks the shop's databases itself, as superuser.

use anyhow::{Context, Result, ensure};
use sqlx::{Connection as _, PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

/// Those of the orders that are paid. A cancelled one is an error: every card here is good.
pub(crate) async fn paid_of(pool: &PgPool, orders: &[Uuid]) -> Result<Vec<Uuid>> {
    if orders.is_empty() {
        return Ok(Vec::new());
    }
    let ended: Vec<(Uuid, String)> =
        sqlx::query_as("select id, status from orders.orders where id = any ($1) and status <> 'placed'")
            .bind(orders)
            .fetch_all(pool)
            .await?;
    if let Some((order, status)) = ended.iter().find(|(_, status)| status != "paid") {
        anyhow::bail!("order {order} is {status}");
    }
    Ok(ended.into_iter().map(|(order, _)| order).collect())
}

/// Now, by the database's clock.
pub(crate) async fn now(pool: &PgPool) -> Result<OffsetDateTime> {
    Ok(sqlx::query_scalar("select clock_timestamp()").fetch_one(pool).await?)
}

/// Orders that became paid between two moments; an error when one of them has another owner.
pub(super) async fn paid_between(
    pool: &PgPool,
    owner: &str,
    from: OffsetDateTime,
    until: OffsetDateTime,
) -> Result<i64> {
    let (paid, strange): (i64, i64) = sqlx::query_as(
        "select count(*), count(*) filter (where w.owner is distinct from $1)
         from orders.orders o left join strangler.owner w on w.migration = 'payments' and w.key = o.payment_id::text
         where o.status = 'paid' and o.changed_at >= $2 and o.changed_at < $3",
    )
    .bind(owner)
    .bind(from)
    .bind(until)
    .fetch_one(pool)
    .await?;
    ensure!(strange == 0, "{strange} of {paid} payments are not owned by the {owner}");
    Ok(paid)
}

/// How far the write-ahead log is on disk.
pub(super) async fn flushed(pool: &PgPool) -> Result<String> {
    Ok(sqlx::query_scalar("select pg_current_wal_flush_lsn()::text").fetch_one(pool).await?)
}

/// Commit records between two places of the write-ahead log, of all databases: one for each transaction that wrote.
pub(super) async fn commits(pool: &PgPool, from: &str, until: &str) -> Result<i64> {
    let commits: Option<i64> = sqlx::query_scalar(
        r#"select sum(count)::bigint from pg_get_wal_stats($1::pg_lsn, $2::pg_lsn, true)
           where "resource_manager/record_type" like 'Transaction/COMMIT%'"#,
    )
    .bind(from)
    .bind(until)
    .fetch_one(pool)
    .await
    .context("read the write-ahead log; its old segments are kept with wal_keep_size")?;
    Ok(commits.unwrap_or(0))
}

/// All transactions of these databases that have ended with a commit, those that only read too.
pub(super) async fn transactions(pool: &PgPool, databases: &[String]) -> Result<i64> {
    let sql = "select sum(xact_commit)::bigint from pg_stat_database where datname = any ($1)";
    Ok(sqlx::query_scalar(sql).bind(databases).fetch_one(pool).await?)
}

/// Connections that the shop's processes hold.
pub(super) async fn sessions(pool: &PgPool, databases: &[String]) -> Result<i64> {
    let sql = "select count(*) from pg_stat_activity where datname = any ($1) and usename <> session_user";
    Ok(sqlx::query_scalar(sql).bind(databases).fetch_one(pool).await?)
}

/// The name of a pool's database.
pub(super) async fn name(pool: &PgPool) -> Result<String> {
    Ok(sqlx::query_scalar("select current_database()::text").fetch_one(pool).await?)
}

/// What the measurements need of the server.
pub(super) async fn prepare(url: &str) -> Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    let loaded: String =
        sqlx::query_scalar("show shared_preload_libraries").fetch_one(&mut connection).await?;
    ensure!(
        loaded.contains("pg_stat_statements"),
        "PostgreSQL counts no statements: run `cargo xtask bench payments`, or start it with \
         shared_preload_libraries=pg_stat_statements"
    );
    for extension in ["pg_stat_statements", "pg_walinspect"] {
        let sql = sqlx::AssertSqlSafe(format!("create extension if not exists {extension}"));
        let made = sqlx::query(sql).execute(&mut connection).await;
        made.with_context(|| format!("{extension}, one of PostgreSQL's contrib modules, is needed"))?;
    }
    Ok(connection.close().await?)
}

/// A checkpoint, so that none falls into a measurement.
pub(crate) async fn checkpoint(pool: &PgPool) -> Result<()> {
    sqlx::query("checkpoint").execute(pool).await?;
    Ok(())
}
