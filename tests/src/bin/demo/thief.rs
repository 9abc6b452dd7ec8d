//! All SQL of the demo: counting births, and stealing from the relay's queue on purpose.

use anyhow::Result;
use sqlx::PgPool;

/// Payments with an owner's row: at the source, at the target.
pub(crate) async fn born(pool: &PgPool) -> Result<(i64, i64)> {
    let counts = sqlx::query_as(
        "select count(*) filter (where owner = 'source'), count(*) filter (where owner = 'target')
         from strangler.owner where migration = 'payments'",
    );
    Ok(counts.fetch_one(pool).await?)
}

/// Events that wait to be sent.
pub(crate) async fn queue(pool: &PgPool) -> Result<i64> {
    Ok(sqlx::query_scalar("select count(*) from outbox.pending").fetch_one(pool).await?)
}

/// Deletes some of them at random and names what was deleted.
pub(crate) async fn steal(pool: &PgPool, loot: i64) -> Result<Vec<String>> {
    let stolen = sqlx::query_scalar(
        "with stolen as (
             delete from outbox.pending
             where (bucket, position) in (select bucket, position from outbox.pending order by random() limit $1)
             returning position, created_at
         )
         select format('%s/%s version %s', e.topic, e.key, e.version)
         from stolen join outbox.event e using (position, created_at)",
    );
    Ok(stolen.bind(loot).fetch_all(pool).await?)
}
