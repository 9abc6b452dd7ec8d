//! What operators did.

use sqlx::PgPool;

use crate::audit::{Entry, Filter};

pub(crate) async fn audit(
    pool: &PgPool,
    filter: &Filter,
    before: Option<i64>,
    limit: i64,
) -> sqlx::Result<Vec<Entry>> {
    sqlx::query_as(
        "select a.id, a.at, a.role::text as role, a.actor, a.action, a.subject, a.reason
         from outbox.audit a
         where ($1::bigint is null or a.id < $1) and ($2::text is null or a.actor = $2)
           and ($3::text is null or a.action = $3) and ($4::text is null or a.subject ->> 'key' = $4)
         order by a.id desc limit $5",
    )
    .bind(before)
    .bind(&filter.actor)
    .bind(&filter.action)
    .bind(&filter.key)
    .bind(limit)
    .fetch_all(pool)
    .await
}
