//! How far a handler is.

use sqlx::{PgConnection, PgPool};

/// Key by key: a filter on a list would be compared with each cursor of the handler.
pub(crate) async fn cursors(
    pool: &PgPool,
    handler: &str,
    topic: &str,
    keys: &[String],
) -> sqlx::Result<Vec<(String, i64)>> {
    sqlx::query_as(
        "select k.key, coalesce(c.version, a.version) from (select distinct key from unnest($3::text[]) key) k
         left join lateral (
             select c.version from outbox.cursor c
             where c.handler = $1 and c.topic = $2 and c.key = k.key and c.version > 0 limit 1
         ) c on true
         left join lateral (
             select a.version from outbox.archived_cursor a
             where a.handler = $1 and a.topic = $2 and a.key = k.key limit 1
         ) a on true
         where coalesce(c.version, a.version) is not null",
    )
    .bind(handler)
    .bind(topic)
    .bind(keys)
    .fetch_all(pool)
    .await
}

/// What waits of a handler: in the database, as dead letters, and of what is known by its version only, each key.
pub(crate) async fn parked_count(pool: &PgPool, handler: &str) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "select (select count(*) from outbox.parked p where p.handler = $1)
              + (select count(*) from outbox.dead_letter d where d.handler = $1)
              + (select count(*) from outbox.overflow o where o.handler = $1 and o.version > coalesce((
                     select c.version from outbox.cursor c
                     where c.handler = o.handler and c.topic = o.topic and c.key = o.key limit 1), 0))",
    )
    .bind(handler)
    .fetch_one(pool)
    .await
}

/// Reads the handler's cursors once: a question for an operator's gate, not for a request.
pub(crate) async fn awaiting_count(pool: &PgPool, handler: &str) -> sqlx::Result<i64> {
    sqlx::query_scalar("select count(*) from outbox.cursor c where c.handler = $1 and c.awaiting_snapshot")
        .bind(handler)
        .fetch_one(pool)
        .await
}

/// Walks the log's primary key backwards. Only events published here are in it, foreign ones move heads alone.
pub(crate) async fn recent_heads(
    db: &mut PgConnection,
    topic: &str,
    except: &[&str],
    limit: i64,
) -> sqlx::Result<Vec<(String, i64)>> {
    sqlx::query_as(
        "select recent.key, max(recent.version)
         from (
             select e.key, e.version, e.position from outbox.event e where e.topic = $1 and e.key <> all ($2)
             order by e.position desc limit $3
         ) recent
         group by recent.key order by max(recent.position) desc",
    )
    .bind(topic)
    .bind(except)
    .bind(limit)
    .fetch_all(db)
    .await
}
