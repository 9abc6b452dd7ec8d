//! Conflicts, for operators.

use sqlx::PgPool;

use crate::conflict::Conflict;

/// Those that nobody has settled, the oldest first.
pub(crate) async fn conflicts(
    pool: &PgPool,
    handler: Option<&str>,
    limit: i64,
) -> sqlx::Result<Vec<Conflict>> {
    sqlx::query_as(
        "select c.handler, c.topic, c.key, c.version, c.applied_id, c.other_id, c.seen_at
         from outbox.conflict c
         where c.settled_at is null and ($1::text is null or c.handler = $1)
         order by c.seen_at, c.handler, c.topic, c.key, c.version, c.other_id limit $2",
    )
    .bind(handler)
    .bind(limit)
    .fetch_all(pool)
    .await
}

pub(crate) async fn settle_conflict(
    pool: &PgPool,
    conflict: &Conflict,
    (actor, reason): (&str, &str),
) -> sqlx::Result<bool> {
    sqlx::query_scalar("select outbox.settle_conflict($1, $2, $3, $4, $5, $6, $7)")
        .bind(&conflict.handler)
        .bind(&conflict.topic)
        .bind(&conflict.key)
        .bind(conflict.version)
        .bind(conflict.other_id)
        .bind(actor)
        .bind(reason)
        .fetch_one(pool)
        .await
}
