//! What history tells of a rollback that has ended: the controller's role only.

use sqlx::PgExecutor;

/// A ramp that was rolled back.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Drilled {
    /// The stage it was in.
    pub(crate) stage: String,
    pub(crate) percent: i16,
    pub(crate) tenants: Vec<String>,
    /// How many keys were at the target when it was rolled back.
    pub(crate) keys: i64,
    /// Since then.
    pub(crate) seconds: f64,
}

/// The rollback under way: the first since the last step forward that began to call keys back.
pub(crate) async fn under_way(
    executor: impl PgExecutor<'_>,
    migration: &str,
) -> Result<Option<Drilled>, sqlx::Error> {
    sqlx::query_as(
        "with forward as (
             select h.revision, h.to_stage, h.percent, h.tenants from strangler.history h
             where h.migration = $1 and h.action = 'advance' order by h.revision desc limit 1
         )
         select f.to_stage as stage, f.percent, f.tenants, (h.evidence ->> 'at_target')::bigint as keys,
                extract(epoch from clock_timestamp() - h.at)::float8 as seconds
         from forward f
         join strangler.history h on h.migration = $1 and h.revision > f.revision
         where h.action = 'rollback' and h.draining and h.evidence ? 'at_target'
         order by h.revision limit 1",
    )
    .bind(migration)
    .fetch_optional(executor)
    .await
}
