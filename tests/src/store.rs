//! SQL of the world and of the outbox's fixtures. The checker's is in `checker/store.rs`.

use anyhow::{Result, ensure};
use outbox::Event as _;
use proto::events::FeedHeartbeat;
use sqlx::{AssertSqlSafe, PgConnection, PgPool};

/// Events that a database's outbox has not delivered. No heartbeats: they come without anybody's doing, up to the moment in which the
/// processes stop.
pub(crate) async fn pending(pool: &PgPool) -> Result<i64> {
    let sql = "select count(*) from outbox.pending p left join outbox.event e using (position, created_at)
               where e.kind is distinct from $1";
    Ok(sqlx::query_scalar(sql).bind(FeedHeartbeat::KIND).fetch_one(pool).await?)
}

/// Whether the database has an outbox.
pub(crate) async fn has_outbox(pool: &PgPool) -> Result<bool> {
    Ok(sqlx::query_scalar("select to_regclass('outbox.pending') is not null").fetch_one(pool).await?)
}

/// Events that wait in an inbox, one line each.
pub(crate) async fn parked(pool: &PgPool) -> Result<Vec<String>> {
    let rows = sqlx::query_scalar(
        "select format('parked: %s %s/%s v%s %s: %s', handler, topic, key, version, reason, coalesce(error, '-'))
         from outbox.parked order by parked_at limit 20",
    );
    Ok(rows.fetch_all(pool).await?)
}

/// Records that no gate could take, one line each.
pub(crate) async fn unreadable(pool: &PgPool) -> Result<Vec<String>> {
    let rows = sqlx::query_scalar(
        "select format('unreadable: %s %s[%s]@%s: %s', consumer_group, topic, partition, record_offset, error)
         from outbox.unreadable order by seen_at limit 20",
    );
    Ok(rows.fetch_all(pool).await?)
}

/// Versions that two events claim, one line each.
pub(crate) async fn conflicts(pool: &PgPool) -> Result<Vec<String>> {
    let rows = sqlx::query_scalar(
        "select format('conflict: %s %s/%s v%s', handler, topic, key, version)
         from outbox.conflict order by seen_at limit 20",
    );
    Ok(rows.fetch_all(pool).await?)
}

/// Creates a role that may log in. The server quotes both.
pub(crate) async fn create_role(connection: &mut PgConnection, role: &str, password: &str) -> Result<()> {
    let statement: String = sqlx::query_scalar("select format('create role %I login password %L', $1, $2)")
        .bind(role)
        .bind(password)
        .fetch_one(&mut *connection)
        .await?;
    sqlx::query(AssertSqlSafe(statement)).execute(connection).await?;
    Ok(())
}

/// Ends the claims and leases that a killed process held.
pub(crate) async fn free(pool: &PgPool) -> Result<()> {
    let claims =
        "update payments.intent set claimed_until = now() where state <> 'done' and claimed_until > now()";
    sqlx::query(claims).execute(pool).await?;
    let leases = "update outbox.lease set relay = null, expires_at = '-infinity' where expires_at > now()";
    sqlx::query(leases).execute(pool).await?;
    sqlx::query("delete from outbox.relay").execute(pool).await?;
    Ok(())
}

/// Empties the replica of a service: its tables, its cursors, and the heads that follow them. Refuses where a payment was the service's, or
/// offered to it.
pub(crate) async fn empty_replica(target: &PgPool) -> Result<()> {
    // Such a service must keep its heads and cursors when it is emptied.
    let offered: i64 =
        sqlx::query_scalar("select count(*) from strangler.authority").fetch_one(target).await?;
    ensure!(
        offered == 0,
        "{offered} payments were the service's or offered to it: it can't be emptied like this"
    );
    sqlx::raw_sql(
        "begin;
         alter table payments.ledger_entry disable trigger not_emptied;
         truncate payments.payment cascade;
         alter table payments.ledger_entry enable always trigger not_emptied;
         delete from outbox.cursor where handler = 'payments.replica' and key <> 'heartbeat.target';
         delete from outbox.applied_id where handler = 'payments.replica' and key <> 'heartbeat.target';
         delete from outbox.head where topic = 'payments.v1' and key <> 'heartbeat.target';
         commit",
    )
    .execute(target)
    .await?;
    Ok(())
}
