//! All SQL of the demo: counting payments, and stealing from the relay's queue on purpose.

use anyhow::Result;
use sqlx::PgPool;

/// Payments with an owner's row, by where they are and where they were born.
#[derive(Debug, Clone, Copy, Default, sqlx::FromRow)]
pub(crate) struct Places {
    pub(crate) born_at_source: i64,
    pub(crate) born_at_target: i64,
    /// Those that are the target's now.
    pub(crate) at_target: i64,
    /// Those that are the source's now.
    pub(crate) at_source: i64,
    /// Those on their way.
    pub(crate) moving: i64,
}

/// Where a payment was born is not stored once it has moved: the policy of its birth says it, as it did then.
pub(crate) async fn places(pool: &PgPool) -> Result<Places> {
    let counts = sqlx::query_as(
        "select count(*) filter (where not born.at_target) as born_at_source,
                count(*) filter (where born.at_target) as born_at_target,
                count(*) filter (where born.owner = 'target' and born.phase = 'settled') as at_target,
                count(*) filter (where born.owner = 'source' and born.phase = 'settled') as at_source,
                count(*) filter (where born.phase <> 'settled') as moving
         from (
             select o.owner, o.phase, coalesce(not h.draining and (h.to_stage = 'primary' or h.to_stage = 'ramping'
                 and (o.tenant = any (h.tenants) or strangler.share(m.salt, o.key) < h.percent)), false) as at_target
             from strangler.owner o
             join strangler.migration m on m.name = o.migration
             left join strangler.history h on h.migration = o.migration and h.revision = o.born_revision and h.action <> 'repair'
             where o.migration = 'payments'
         ) born",
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
