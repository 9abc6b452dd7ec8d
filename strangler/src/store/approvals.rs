//! Who is for a step that can't be taken back: the controller's role only.

use std::time::Duration;

use sqlx::postgres::types::PgInterval;
use sqlx::{PgExecutor, PgPool};

use crate::{Approval, Error, Stage};

pub(crate) async fn add(
    executor: impl PgExecutor<'_>,
    migration: &str,
    stage: Stage,
    (by, reason): (&str, &str),
) -> Result<(), sqlx::Error> {
    sqlx::query("insert into strangler.approval (migration, stage, by, reason) values ($1, $2, $3, $4)")
        .bind(migration)
        .bind(stage.name())
        .bind(by)
        .bind(reason)
        .execute(executor)
        .await
        .map(drop)
}

/// Those that count: the last of each person within `lifetime`, and since the policy last changed its stage or went back.
/// Oldest first, at most `limit`.
pub(crate) async fn counting(
    pool: &PgPool,
    migration: &str,
    stage: Stage,
    (lifetime, limit): (Duration, i64),
) -> Result<Vec<Approval>, Error> {
    let lifetime = PgInterval::try_from(lifetime)
        .map_err(|reason| Error::Invalid { field: "lifetime", reason: reason.to_string() })?;
    let approvals = sqlx::query_as(
        "select a.id, a.by, a.at, a.reason
         from (select distinct on (a.by) a.id::text as id, a.by, a.at, a.reason
               from strangler.approval a
               where a.migration = $1 and a.stage = $2 and a.at > clock_timestamp() - $3::interval
                 and a.at > coalesce(strangler.approvals_since($1), '-infinity')
               order by a.by, a.at desc) a
         order by a.at limit $4",
    )
    .bind(migration)
    .bind(stage.name())
    .bind(lifetime)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    Ok(approvals)
}
