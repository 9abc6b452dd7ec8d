//! What reads see of the policy, and what they found.

use sqlx::PgPool;

use crate::Error;
use crate::reads::{Batch, ReadPolicy};

/// What of the counts since the present stage was entered is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// By programs of this version ..
    pub(crate) version: &'a str,
    /// .. within so many hours; an hour that began before that is no part of it.
    pub(crate) hours: u32,
    /// Of these classes all, whoever counted them and whenever.
    pub(crate) always: &'a [&'a str],
}

pub(crate) async fn policy(pool: &PgPool, migration: &str) -> Result<Option<ReadPolicy>, Error> {
    let sql = "select stage, percent, tenants, salt, since from strangler.read_policy($1)";
    Ok(sqlx::query_as(sql).bind(migration).fetch_optional(pool).await?)
}

/// Adds a batch that was counted since a stage was entered, by a program of this version.
pub(crate) async fn note(
    pool: &PgPool,
    migration: &str,
    (since, version): (i64, &str),
    batch: &Batch,
) -> Result<(), Error> {
    let classes: Vec<String> = batch.counts.keys().map(|class| (*class).to_owned()).collect();
    let counts: Vec<i64> = batch.counts.values().copied().collect();
    let sampled: Vec<String> = batch.samples.iter().map(|sample| sample.class.to_owned()).collect();
    let keys: Vec<String> = batch.samples.iter().map(|sample| sample.key.clone()).collect();
    let sources: Vec<String> = batch.samples.iter().map(|sample| sample.source.clone()).collect();
    let targets: Vec<String> = batch.samples.iter().map(|sample| sample.target.clone()).collect();
    sqlx::query("select strangler.note_reads($1, $2, $3, $4, $5, $6, $7, $8, $9)")
        .bind(migration)
        .bind(since)
        .bind(version)
        .bind(classes)
        .bind(counts)
        .bind(sampled)
        .bind(keys)
        .bind(sources)
        .bind(targets)
        .execute(pool)
        .await?;
    Ok(())
}

/// How many of each class.
pub(crate) async fn counts(
    pool: &PgPool,
    migration: &str,
    asked: Asked<'_>,
) -> Result<Vec<(String, i64)>, Error> {
    let sql = "
        select c.class, sum(c.count)::bigint
        from strangler.read_policy($1) p
        join strangler.read_comparison c on c.migration = $1 and c.since = p.since
        where c.class = any($4)
           or (c.version = $2 and c.hour >= statement_timestamp() - interval '1 hour' * $3)
        group by c.class";
    let counts = sqlx::query_as(sql)
        .bind(migration)
        .bind(asked.version)
        .bind(f64::from(asked.hours))
        .bind(asked.always)
        .fetch_all(pool)
        .await?;
    Ok(counts)
}
