//! What the benchmark asks the databases of the shop itself, as superuser.

use std::time::Instant;

use anyhow::{Result, ensure};
use sqlx::{FromRow, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use super::float;

/// Keys in a batch of a hand-over, as the controller takes them by default.
const BATCH: usize = 500;

/// Where a key is.
#[derive(Debug, Clone, FromRow)]
pub(super) struct Place {
    pub(super) key: String,
    pub(super) owner: String,
    pub(super) phase: String,
}

/// All payments that are paid, in the order of their keys.
pub(super) async fn payments(source: &PgPool) -> Result<Vec<Uuid>> {
    let sql = "select id from payments.payment where status = 'captured' order by id";
    Ok(sqlx::query_scalar(sql).fetch_all(source).await?)
}

/// How many payments of before then a database has.
pub(super) async fn count_before(pool: &PgPool, then: OffsetDateTime) -> Result<i64> {
    let sql = "select count(*) from payments.payment where requested_at < $1";
    Ok(sqlx::query_scalar(sql).bind(then).fetch_one(pool).await?)
}

/// Those of the keys that don't rest at this home.
pub(super) async fn away(source: &PgPool, home: &str, keys: &[String]) -> Result<Vec<Place>> {
    let sql = "select key, owner, phase from strangler.owner
               where migration = 'payments' and key = any ($1) and not (owner = $2 and phase = 'settled')";
    Ok(sqlx::query_as(sql).bind(keys).bind(home).fetch_all(source).await?)
}

/// When the commands with these idempotency keys were written at a home.
pub(super) async fn commands(pool: &PgPool, names: &[String]) -> Result<Vec<(String, OffsetDateTime)>> {
    let sql = "select idempotency_key, created_at from payments.intent where idempotency_key = any ($1)";
    Ok(sqlx::query_as(sql).bind(names).fetch_all(pool).await?)
}

/// How many payments of before then the target has applied since, and the seconds from the first to the last, by its clock.
pub(super) async fn filled(target: &PgPool, then: OffsetDateTime) -> Result<(i64, f64)> {
    let (keys, seconds): (i64, Option<f64>) = sqlx::query_as(
        "select count(*), extract(epoch from max(at) - min(at))::double precision
         from (
             select a.key, min(a.applied_at) as at
             from outbox.applied_id a join payments.payment p on p.id::text = a.key
             where a.handler = 'payments.replica' and a.topic = 'payments.v1' and a.applied_at >= $1 and p.requested_at < $1
             group by a.key
         ) applied",
    )
    .bind(then)
    .fetch_one(target)
    .await?;
    Ok((keys, seconds.unwrap_or(0.0)))
}

/// The limit of a hand-over: the four statements that swap the owners' rows, batch after batch on one connection, each batch in
/// three transactions; without events, target and calls. On a copy of the table. Keys a second.
pub(super) async fn swaps(source: &PgPool) -> Result<f64> {
    sqlx::raw_sql(
        "drop table if exists bench.owner;
         create table bench.owner (like strangler.owner including all);
         insert into bench.owner
         select o.* from strangler.owner o where o.migration = 'payments' and o.phase = 'settled';
         update bench.owner set owner = 'source', granted_epoch = 0;
         analyze bench.owner",
    )
    .execute(source)
    .await?;
    let keys: Vec<String> =
        sqlx::query_scalar("select key from bench.owner order by key").fetch_all(source).await?;
    ensure!(!keys.is_empty(), "there is no key to swap");
    let mut connection = source.acquire().await?;
    let began = Instant::now();
    for batch in keys.chunks(BATCH) {
        sqlx::query("begin").execute(&mut *connection).await?;
        let claim =
            "select key from bench.owner where migration = 'payments' and key = any ($1) and owner = 'source'
                         and phase = 'settled' order by key for update skip locked";
        let claimed: Vec<String> = sqlx::query_scalar(claim).bind(batch).fetch_all(&mut *connection).await?;
        let steps = [
            "update bench.owner set phase = 'moving', epoch = epoch + 1, changed_at = clock_timestamp()
             where migration = 'payments' and key = any ($1)",
            "update bench.owner set owner = 'target', phase = 'settled', epoch = epoch + 1, changed_at = clock_timestamp()
             where migration = 'payments' and key = any ($1)",
            "update bench.owner set granted_epoch = epoch where migration = 'payments' and key = any ($1)",
        ];
        for (n, step) in steps.into_iter().enumerate() {
            sqlx::query(step).bind(&claimed).execute(&mut *connection).await?;
            // The claim and the first step are one transaction; each other statement is its own.
            if n == 0 {
                sqlx::query("commit").execute(&mut *connection).await?;
            }
        }
    }
    Ok(float(keys.len()) / began.elapsed().as_secs_f64())
}
