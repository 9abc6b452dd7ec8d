//! Owner rows in bulk: seeding, counting, explaining. The controller's role only.

use sqlx::{PgExecutor, PgPool, postgres::PgTransaction};
use time::OffsetDateTime;

use crate::Keys;

/// An owner row, with what decided it.
#[derive(sqlx::FromRow)]
pub(crate) struct Born {
    pub(crate) tenant: String,
    pub(crate) owner: String,
    pub(crate) phase: String,
    pub(crate) epoch: i64,
    pub(crate) granted_epoch: i64,
    pub(crate) born_at: OffsetDateTime,
    pub(crate) born_revision: i64,
    /// The policy of the birth; null when it was seeded.
    pub(crate) stage: Option<String>,
    pub(crate) percent: Option<i16>,
    pub(crate) by_tenant: Option<bool>,
    /// It was being rolled back.
    pub(crate) draining: Option<bool>,
}

pub(crate) async fn find(pool: &PgPool, migration: &str, key: &str) -> Result<Option<Born>, sqlx::Error> {
    sqlx::query_as(
        "select o.tenant, o.owner, o.phase, o.epoch, o.granted_epoch, o.born_at, o.born_revision,
                h.to_stage as stage, h.percent, o.tenant = any (h.tenants) as by_tenant, h.draining
         from strangler.owner o
         left join strangler.history h on h.migration = o.migration and h.revision = o.born_revision and h.action <> 'repair'
         where o.migration = $1 and o.key = $2",
    )
    .bind(migration)
    .bind(key)
    .fetch_optional(pool)
    .await
}

/// Where the policy in force would let a key be born.
pub(crate) async fn birthplace(
    pool: &PgPool,
    migration: &str,
    tenant: &str,
    key: &str,
) -> Result<String, sqlx::Error> {
    sqlx::query_scalar("select strangler.birthplace(m, $2, $3) from strangler.migration m where m.name = $1")
        .bind(migration)
        .bind(tenant)
        .bind(key)
        .fetch_one(pool)
        .await
}

/// Gives keys that have no owner to the source. Returns how many had none.
pub(crate) async fn seed(
    tx: &mut PgTransaction<'_>,
    migration: &str,
    tenants: &[String],
    keys: &[String],
) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(
        "insert into strangler.owner (migration, key, tenant, owner, born_at, born_revision)
         select $1, k.key, k.tenant, 'source', clock_timestamp(), 0
         from unnest($2::text[], $3::text[]) as k (tenant, key)
         order by k.key
         on conflict (migration, key) do nothing",
    )
    .bind(migration)
    .bind(tenants)
    .bind(keys)
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected())
}

pub(crate) async fn seeded_after(pool: &PgPool, migration: &str) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar("select after from strangler.seeding where migration = $1")
        .bind(migration)
        .fetch_optional(pool)
        .await
        .map(Option::flatten)
}

/// Notes how far seeding came; `None`: from the beginning again.
pub(crate) async fn note_seeding(
    executor: impl PgExecutor<'_>,
    migration: &str,
    after: Option<&str>,
    seeded: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into strangler.seeding as s (migration, after, seeded) values ($1, $2, $3)
         on conflict (migration) do update set after = excluded.after, seeded = s.seeded + excluded.seeded",
    )
    .bind(migration)
    .bind(after)
    .bind(seeded)
    .execute(executor)
    .await
    .map(drop)
}

/// One of these keys that has no owner row, if any.
pub(crate) async fn without_owner(
    executor: impl PgExecutor<'_>,
    migration: &str,
    keys: &[String],
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        "select k.key from unnest($2::text[]) as k (key)
         where not exists (select from strangler.owner o where o.migration = $1 and o.key = k.key)
         limit 1",
    )
    .bind(migration)
    .bind(keys)
    .fetch_optional(executor)
    .await
}

pub(crate) async fn count(pool: &PgPool, migration: &str) -> Result<Keys, sqlx::Error> {
    sqlx::query_as(
        "select count(*) filter (where owner = 'source' and phase = 'settled') as source,
                count(*) filter (where owner = 'target' and phase = 'settled') as target,
                count(*) filter (where phase = 'moving') as moving,
                count(*) filter (where phase = 'recalling') as recalling,
                count(*) filter (where owner = 'target' and phase = 'settled' and epoch > 1
                                       and granted_epoch < epoch) as granting
         from strangler.owner where migration = $1",
    )
    .bind(migration)
    .fetch_one(pool)
    .await
}

/// Whether some key is not settled at the source. In the order of the index, so that no plan reads the table to find none.
pub(crate) async fn any_away(pool: &PgPool, migration: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "select (select o.key from strangler.owner o
                 where o.migration = $1 and o.owner = 'target' order by o.phase, o.key limit 1) is not null
             or (select o.key from strangler.owner o
                 where o.migration = $1 and o.owner = 'source' and o.phase = 'moving' order by o.key limit 1) is not null",
    )
    .bind(migration)
    .fetch_one(pool)
    .await
}

/// How many keys are not settled at the source. One of its own that is not settled is moving: that is looked up in the index.
pub(crate) async fn count_away(executor: impl PgExecutor<'_>, migration: &str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "select (select count(*) from strangler.owner where migration = $1 and owner = 'target')
              + (select count(*) from strangler.owner where migration = $1 and owner = 'source' and phase = 'moving')",
    )
    .bind(migration)
    .fetch_one(executor)
    .await
}

/// Those of these keys that were born after a moment.
pub(crate) async fn born_after(
    pool: &PgPool,
    migration: &str,
    keys: &[String],
    moment: OffsetDateTime,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "select o.key from strangler.owner o where o.migration = $1 and o.key = any ($2) and o.born_at > $3",
    )
    .bind(migration)
    .bind(keys)
    .bind(moment)
    .fetch_all(pool)
    .await
}
