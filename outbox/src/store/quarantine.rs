//! Quarantine, for operators.

use sqlx::PgPool;

use crate::quarantine::Quarantined;

pub(crate) async fn quarantined(pool: &PgPool, after: i64, limit: i64) -> sqlx::Result<Vec<Quarantined>> {
    sqlx::query_as(
        "select q.topic, q.key, q.version, q.id, q.kind, q.position, q.attempts, q.error, q.quarantined_at
         from outbox.quarantine q where q.position > $1 order by q.position limit $2",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(pool)
    .await
}

pub(crate) async fn resend(
    pool: &PgPool,
    (topic, key, version): (&str, &str, i64),
    actor: &str,
    reason: &str,
) -> sqlx::Result<()> {
    sqlx::query("select outbox.resend($1, $2, $3, $4, $5)")
        .bind(topic)
        .bind(key)
        .bind(version)
        .bind(actor)
        .bind(reason)
        .execute(pool)
        .await?;
    Ok(())
}

pub(crate) async fn skip(
    pool: &PgPool,
    (topic, key, version): (&str, &str, i64),
    actor: &str,
    reason: &str,
) -> sqlx::Result<()> {
    sqlx::query("select outbox.skip($1, $2, $3, $4, $5)")
        .bind(topic)
        .bind(key)
        .bind(version)
        .bind(actor)
        .bind(reason)
        .execute(pool)
        .await?;
    Ok(())
}
