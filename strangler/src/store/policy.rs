//! The policy, its history, its lease: the controller's role only.

use std::time::Duration;

use sqlx::{PgExecutor, PgPool, postgres::PgTransaction, postgres::types::PgInterval};
use time::OffsetDateTime;

use crate::policy::Policy;
use crate::{Error, History};

pub(crate) async fn find(
    executor: impl PgExecutor<'_>,
    migration: &str,
) -> Result<Option<Policy>, sqlx::Error> {
    sqlx::query_as(
        "select stage, percent, tenants, salt, metric, draining, held, revision, changed_at
         from strangler.migration where name = $1",
    )
    .bind(migration)
    .fetch_optional(executor)
    .await
}

/// How long each lock of this transaction may be waited for.
pub(crate) async fn limit_waits(tx: &mut PgTransaction<'_>, wait: Duration) -> Result<(), sqlx::Error> {
    sqlx::query("select set_config('lock_timeout', $1, true)")
        .bind(format!("{}ms", wait.as_millis().max(1)))
        .execute(&mut **tx)
        .await
        .map(drop)
}

/// How long each further statement of this transaction may take. Returns the bound that was in force, for [`bound_statements`] to set
/// it again. A lock timeout bounds one wait; a statement that waits for one holder after another has no other bound.
pub(crate) async fn limit_statements(
    tx: &mut PgTransaction<'_>,
    bound: Duration,
) -> Result<String, sqlx::Error> {
    let before =
        sqlx::query_scalar("select current_setting('statement_timeout')").fetch_one(&mut **tx).await?;
    bound_statements(tx, &format!("{}ms", bound.as_millis().max(1))).await?;
    Ok(before)
}

/// Sets the bound of each further statement of this transaction, as the database writes it.
pub(crate) async fn bound_statements(tx: &mut PgTransaction<'_>, bound: &str) -> Result<(), sqlx::Error> {
    sqlx::query("select set_config('statement_timeout', $1, true)")
        .bind(bound)
        .execute(&mut **tx)
        .await
        .map(drop)
}

/// Stands in the queue that births stand in (`strangler.hold_policy`). With the row lock alone, births that never pause
/// would keep a change waiting for ever: a new `for key share` joins those that hold one.
pub(crate) async fn queue(tx: &mut PgTransaction<'_>, migration: &str) -> Result<(), sqlx::Error> {
    sqlx::query("select pg_advisory_xact_lock(hashtext('strangler.migration'), hashtext($1))")
        .bind(migration)
        .execute(&mut **tx)
        .await
        .map(drop)
}

/// Locks the policy against births and other changes.
pub(crate) async fn lock(tx: &mut PgTransaction<'_>, migration: &str) -> Result<Option<Policy>, sqlx::Error> {
    sqlx::query_as(
        "select stage, percent, tenants, salt, metric, draining, held, revision, changed_at
         from strangler.migration where name = $1 for update",
    )
    .bind(migration)
    .fetch_optional(&mut **tx)
    .await
}

/// Writes a policy as the next revision and returns that with the time since which it is so: a hold, or a metric, makes it no younger.
pub(crate) async fn update(
    tx: &mut PgTransaction<'_>,
    migration: &str,
    next: &Policy,
) -> Result<(i64, OffsetDateTime), sqlx::Error> {
    sqlx::query_as(
        "update strangler.migration
         set stage = $2, percent = $3, tenants = $4, metric = $5, draining = $6, held = $7,
             revision = revision + 1,
             changed_at = case when (stage, percent, tenants, draining) is distinct from ($2, $3, $4, $6)
                               then clock_timestamp() else changed_at end
         where name = $1
         returning revision, changed_at",
    )
    .bind(migration)
    .bind(next.stage.name())
    .bind(next.percent)
    .bind(&next.tenants)
    .bind(&next.metric)
    .bind(next.draining)
    .bind(&next.held)
    .fetch_one(&mut **tx)
    .await
}

/// A line of history.
pub(crate) struct Entry<'a> {
    pub(crate) action: &'static str,
    pub(crate) by: &'a str,
    pub(crate) reason: &'a str,
    pub(crate) evidence: &'a serde_json::Value,
}

pub(crate) async fn note(
    tx: &mut PgTransaction<'_>,
    migration: &str,
    from: &Policy,
    to: &Policy,
    entry: &Entry<'_>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into strangler.history
             (migration, revision, at, action, from_stage, to_stage, percent, tenants, draining, by, reason, evidence)
         values ($1, $2, clock_timestamp(), $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(migration)
    .bind(to.revision)
    .bind(entry.action)
    .bind(from.stage.name())
    .bind(to.stage.name())
    .bind(to.percent)
    .bind(&to.tenants)
    .bind(to.draining)
    .bind(entry.by)
    .bind(entry.reason)
    .bind(entry.evidence)
    .execute(&mut **tx)
    .await
    .map(drop)
}

/// A line of history of what changes no policy. Returns the revision in force; none for an unknown migration.
pub(crate) async fn note_repair(
    pool: &PgPool,
    migration: &str,
    by: &str,
    reason: &str,
    evidence: &serde_json::Value,
) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar(
        "insert into strangler.history
             (migration, revision, at, action, from_stage, to_stage, percent, tenants, draining, by, reason, evidence)
         select m.name, m.revision, clock_timestamp(), 'repair', m.stage, m.stage, m.percent, m.tenants, m.draining, $2, $3, $4
         from strangler.migration m where m.name = $1
         returning revision",
    )
    .bind(migration)
    .bind(by)
    .bind(reason)
    .bind(evidence)
    .fetch_optional(pool)
    .await
}

/// When the migration was held last.
pub(crate) async fn held_last(pool: &PgPool, migration: &str) -> Result<Option<OffsetDateTime>, sqlx::Error> {
    sqlx::query_scalar("select max(at) from strangler.history where migration = $1 and action = 'hold'")
        .bind(migration)
        .fetch_one(pool)
        .await
}

/// For how long the stage has been undisturbed, in seconds: it was neither left, nor rolled back, nor held, and no end was put to
/// that either.
pub(crate) async fn unbroken_seconds(pool: &PgPool, migration: &str) -> Result<f64, sqlx::Error> {
    sqlx::query_scalar(
        "select coalesce(extract(epoch from clock_timestamp() - strangler.unbroken_since($1)), 0)::float8",
    )
    .bind(migration)
    .fetch_one(pool)
    .await
}

pub(crate) async fn history(
    pool: &PgPool,
    migration: &str,
    lines_max: i64,
) -> Result<Vec<History>, sqlx::Error> {
    sqlx::query_as(
        "select revision, at, action, from_stage, to_stage, percent, by, reason,
                array(select jsonb_array_elements_text(coalesce(evidence -> 'cites', '[]'))) as cites
         from strangler.history where migration = $1 order by revision desc, id desc limit $2",
    )
    .bind(migration)
    .bind(lines_max)
    .fetch_all(pool)
    .await
}

/// Takes or renews the lease. False while another controller holds it.
pub(crate) async fn take_lease(
    pool: &PgPool,
    migration: &str,
    holder: &str,
    ttl: Duration,
) -> Result<bool, Error> {
    let ttl = PgInterval::try_from(ttl)
        .map_err(|reason| Error::Invalid { field: "lease", reason: reason.to_string() })?;
    let done = sqlx::query(
        "insert into strangler.lease as l (migration, holder, expires_at) values ($1, $2, clock_timestamp() + $3)
         on conflict (migration) do update set holder = excluded.holder, expires_at = excluded.expires_at
         where l.holder = excluded.holder or l.expires_at < clock_timestamp()",
    )
    .bind(migration)
    .bind(holder)
    .bind(ttl)
    .execute(pool)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub(crate) async fn release_lease(pool: &PgPool, migration: &str, holder: &str) -> Result<(), sqlx::Error> {
    sqlx::query("update strangler.lease set expires_at = '-infinity' where migration = $1 and holder = $2")
        .bind(migration)
        .bind(holder)
        .execute(pool)
        .await
        .map(drop)
}

pub(crate) async fn leader(pool: &PgPool, migration: &str) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        "select holder from strangler.lease where migration = $1 and expires_at > clock_timestamp()",
    )
    .bind(migration)
    .fetch_optional(pool)
    .await
}
