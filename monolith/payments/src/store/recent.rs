//! What was written last.

use sqlx::PgPool;
use uuid::Uuid;

/// No index on the time: it would make each update of a payment dearer, and only an operator's gate asks this.
pub(crate) async fn recent(pool: &PgPool, limit: i64) -> Result<Vec<(Uuid, i64)>, sqlx::Error> {
    sqlx::query_as("select id, version from payments.payment order by updated_at desc limit $1")
        .bind(limit)
        .fetch_all(pool)
        .await
}
