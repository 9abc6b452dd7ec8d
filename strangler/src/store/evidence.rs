//! What gates may be passed by: the controller's role only.

use std::time::Duration;

use sqlx::postgres::types::PgInterval;
use sqlx::{PgExecutor, PgPool};
use time::OffsetDateTime;

use crate::{Error, Gate};

/// Evidence as it was kept.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Kept {
    pub(crate) id: String,
    pub(crate) verdict: String,
    pub(crate) found: String,
    pub(crate) version: Option<String>,
    pub(crate) at: OffsetDateTime,
    pub(crate) expired: bool,
    /// A backfill ended after it began.
    pub(crate) outdated: bool,
    /// It was begun, and nothing was found yet.
    pub(crate) unfinished: bool,
}

/// The database's clock: what evidence is dated by.
pub(crate) async fn now(pool: &PgPool) -> Result<OffsetDateTime, sqlx::Error> {
    sqlx::query_scalar("select clock_timestamp()").fetch_one(pool).await
}

/// Keeps what was found as a gate, with what it was found from (the gate's own `evidence`). `began_at`: when it began to be
/// looked at.
pub(crate) async fn keep(
    executor: impl PgExecutor<'_>,
    migration: &str,
    gate: &Gate,
    began_at: Option<OffsetDateTime>,
    lifetime: Duration,
) -> Result<(), Error> {
    let lifetime = PgInterval::try_from(lifetime)
        .map_err(|reason| Error::Invalid { field: "lifetime", reason: reason.to_string() })?;
    sqlx::query(
        "insert into strangler.evidence (migration, gate, verdict, found, inputs, began_at, expires_at)
         values ($1, $2, $3, $4, $5, $6, clock_timestamp() + $7)",
    )
    .bind(migration)
    .bind(&gate.name)
    .bind(gate.verdict.name())
    .bind(&gate.found)
    .bind(&gate.evidence)
    .bind(began_at)
    .bind(lifetime)
    .execute(executor)
    .await?;
    Ok(())
}

/// The last evidence for a gate.
pub(crate) async fn last(pool: &PgPool, migration: &str, gate: &str) -> Result<Option<Kept>, sqlx::Error> {
    sqlx::query_as(
        "select e.id::text as id, e.verdict, e.found, e.inputs ->> 'version' as version, e.at,
                e.expires_at <= clock_timestamp() as expired, e.gate = 'parity' and coalesce(b.done_at > coalesce(e.began_at, e.at), false) as outdated,
                e.inputs ->> 'unfinished' is not null as unfinished
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
