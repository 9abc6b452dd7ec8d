//! Sealing, and what touches the source's copy after it.

use std::time::Duration;

use sqlx::postgres::types::PgInterval;
use sqlx::{PgPool, postgres::PgTransaction};

use crate::Error;

/// A right that someone still has in the domain's schemas.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Granted {
    pub(crate) role: String,
    pub(crate) privilege: String,
    pub(crate) object: String,
}

/// A table or a statement that was touched.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Touched {
    pub(crate) shown: String,
    /// The statement's role; empty for a table.
    pub(crate) by: String,
    /// How long ago it was found.
    pub(crate) seconds: f64,
}

/// Revokes the rights of the source's roles, in the transaction that changes the stage. Returns how many.
pub(crate) async fn seal(tx: &mut PgTransaction<'_>, migration: &str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select strangler.seal($1)").bind(migration).fetch_one(&mut **tx).await
}

pub(crate) async fn is_sealed(pool: &PgPool, migration: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select strangler.is_sealed($1)").bind(migration).fetch_one(pool).await
}

/// Notes what was touched since the last look. Returns what it could not look at, if anything.
pub(crate) async fn note_touches(pool: &PgPool, migration: &str) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar("select strangler.note_touches($1)").bind(migration).fetch_one(pool).await
}

/// What anyone but the owners of the tables may still do there, at most `limit` rights.
pub(crate) async fn grants_left(
    pool: &PgPool,
    migration: &str,
    limit: i64,
) -> Result<Vec<Granted>, sqlx::Error> {
    sqlx::query_as("select role, privilege, object from strangler.grants_left($1) limit $2")
        .bind(migration)
        .bind(limit)
        .fetch_all(pool)
        .await
}

/// What was found touched within a time, the last first, at most `limit`.
pub(crate) async fn touched(
    pool: &PgPool,
    migration: &str,
    within: Duration,
    limit: i64,
) -> Result<Vec<Touched>, Error> {
    let within = PgInterval::try_from(within)
        .map_err(|reason| Error::Invalid { field: "verify_days", reason: reason.to_string() })?;
    let touched = sqlx::query_as(
        "select t.shown, t.by, extract(epoch from clock_timestamp() - t.changed_at)::float8 as seconds
         from strangler.touch t
         where t.migration = $1 and t.changed_at > clock_timestamp() - $2
         order by t.changed_at desc, t.shown limit $3",
    )
    .bind(migration)
    .bind(within)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    Ok(touched)
}

/// For how long tables and statements have been watched, in seconds, and how many of them; 0 before the first look at either.
pub(crate) async fn watched(pool: &PgPool, migration: &str) -> Result<(f64, i64), sqlx::Error> {
    sqlx::query_as(
        "select case when count(*) filter (where t.name = '') = 2
                     then extract(epoch from clock_timestamp() - max(t.first_at) filter (where t.name = ''))
                     else 0 end::float8,
                count(*) filter (where t.name <> '')
         from strangler.touch t where t.migration = $1",
    )
    .bind(migration)
    .fetch_one(pool)
    .await
}
