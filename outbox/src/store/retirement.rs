//! The end of a handler.

use sqlx::PgPool;

/// How many keys it had met.
pub(crate) async fn retire_handler(
    pool: &PgPool,
    handler: &str,
    forced: bool,
    (actor, reason): (&str, &str),
) -> sqlx::Result<i64> {
    sqlx::query_scalar("select outbox.retire_handler($1, $2, $3, $4)")
        .bind(handler)
        .bind(forced)
        .bind(actor)
        .bind(reason)
        .fetch_one(pool)
        .await
}
