//! The leases on the queue's buckets, and who holds them.

use std::time::Duration;

use sqlx::{PgConnection, postgres::types::PgInterval};
use uuid::Uuid;

/// Renews, gives back, takes; returns the buckets held. None while another relay of this name is alive.
pub(crate) async fn lease(
    connection: &mut PgConnection,
    relay: Uuid,
    name: &str,
    ttl: Duration,
) -> sqlx::Result<Vec<i16>> {
    sqlx::query_scalar("select outbox.lease($1, $2, $3)")
        .bind(relay)
        .bind(name)
        .bind(interval(ttl))
        .fetch_all(connection)
        .await
}

/// Whether another relay has this name.
pub(crate) async fn name_is_taken(
    connection: &mut PgConnection,
    relay: Uuid,
    name: &str,
) -> sqlx::Result<bool> {
    sqlx::query_scalar("select exists (select from outbox.relay r where r.name = $2 and r.id <> $1)")
        .bind(relay)
        .bind(name)
        .fetch_one(connection)
        .await
}

pub(crate) async fn release(connection: &mut PgConnection, relay: Uuid) -> sqlx::Result<()> {
    sqlx::query("select outbox.release($1)").bind(relay).execute(connection).await?;
    Ok(())
}

/// The topics that modules of this database may publish to.
pub(crate) async fn granted_topics(connection: &mut PgConnection) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(
        "select distinct topic from outbox.origin o cross join unnest(o.topics) as topic order by topic",
    )
    .fetch_all(connection)
    .await
}

/// Durations here are bounded by options of seconds to minutes, so the conversion can't fail in earnest.
pub(crate) fn interval(duration: Duration) -> PgInterval {
    let microseconds = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    PgInterval { months: 0, days: 0, microseconds }
}
