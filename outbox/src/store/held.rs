//! What of a key waits.

use sqlx::postgres::PgTransaction;

pub(crate) async fn held(
    tx: &mut PgTransaction<'_>,
    topic: &str,
    keys: &[String],
) -> sqlx::Result<Vec<(String, String, Option<String>)>> {
    sqlx::query_as("select key, what, handler from outbox.waiting($1, $2)")
        .bind(topic)
        .bind(keys)
        .fetch_all(&mut **tx)
        .await
}
