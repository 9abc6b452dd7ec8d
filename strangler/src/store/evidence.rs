//! What gates may be passed by: the controller's role only.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::types::PgInterval;
use time::OffsetDateTime;

use crate::{Error, Verdict};

/// Evidence as it was kept.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Kept {
    pub(crate) id: String,
    pub(crate) verdict: String,
    pub(crate) found: String,
    pub(crate) version: Option<String>,
    pub(crate) at: OffsetDateTime,
    pub(crate) expired: bool,
    /// A backfill ended after it.
    pub(crate) outdated: bool,
}

pub(crate) async fn keep(
    pool: &PgPool,
    migration: &str,
    gate: &str,
    (verdict, found): (Verdict, &str),
    inputs: &serde_json::Value,
    lifetime: Duration,
) -> Result<(), Error> {
    let lifetime = PgInterval::try_from(lifetime)
        .map_err(|reason| Error::Invalid { field: "lifetime", reason: reason.to_string() })?;
    sqlx::query(
        "insert into strangler.evidence (migration, gate, verdict, found, inputs, expires_at)
         values ($1, $2, $3, $4, $5, clock_timestamp() + $6)",
    )
    .bind(migration)
    .bind(gate)
    .bind(verdict.name())
    .bind(found)
    .bind(inputs)
    .bind(lifetime)
    .execute(pool)
    .await?;
    Ok(())
}

/// The last evidence for a gate.
pub(crate) async fn last(pool: &PgPool, migration: &str, gate: &str) -> Result<Option<Kept>, sqlx::Error> {
    sqlx::query_as(
        "select e.id::text as id, e.verdict, e.found, e.inputs ->> 'version' as version, e.at,
                e.expires_at <= clock_timestamp() as expired, coalesce(b.done_at > e.at, false) as outdated
         from strangler.evidence e
         left join strangler.backfill b on b.migration = e.migration
         where e.migration = $1 and e.gate = $2
         order by e.at desc limit 1",
    )
    .bind(migration)
    .bind(gate)
    .fetch_optional(pool)
    .await
}
