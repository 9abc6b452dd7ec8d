//! What reads see of the policy, and what they found.

use sqlx::PgPool;
use time::OffsetDateTime;

use crate::Error;
use crate::reads::{Batch, ReadPolicy};

/// A count as the controller sees it.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Count {
    pub(crate) class: String,
    pub(crate) count: i64,
    pub(crate) noted_at: OffsetDateTime,
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

/// What was counted since the present stage was entered, by the version of the program that noted last: a change of it voids what
/// was found before.
pub(crate) async fn counts(pool: &PgPool, migration: &str) -> Result<Vec<Count>, Error> {
    let sql = "
        select c.class, c.count, c.noted_at
        from strangler.read_policy($1) p
        join strangler.read_comparison c on c.migration = $1 and c.since = p.since
        where c.version = (
            select last.version from strangler.read_comparison last
            where last.migration = $1 and last.since = p.since order by last.noted_at desc limit 1
        )";
    Ok(sqlx::query_as(sql).bind(migration).fetch_all(pool).await?)
}
