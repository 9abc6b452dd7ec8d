//! Signs of life in the feed between the homes. `docs/decisions/0011-heartbeats-in-the-payments-topic.md` has why they are there.

use std::time::Duration;

use proto::events::FeedHeartbeat;
use sqlx::PgPool;
use sqlx::postgres::PgTransaction;
use time::OffsetDateTime;

use crate::{Error, store};

/// The last heartbeat of the other home that the replica here has applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// The version of its stream.
    pub sequence: i64,
    /// When it was published, by the other home's database.
    pub sent_at: OffsetDateTime,
    /// When it was applied, by this home's.
    pub received_at: OffsetDateTime,
    /// How long ago that was when it was read, by this home's database.
    pub age: Duration,
}

/// Publishes the next heartbeat of a home, `source` or `target`, and returns its number.
///
/// # Errors
/// [`Error::Outbox`], also for another name.
pub async fn beat(tx: &mut PgTransaction<'_>, home: &str) -> Result<i64, Error> {
    Ok(outbox::publish(tx, &FeedHeartbeat { home: home.to_owned() }).await?)
}

/// The other home's last heartbeat; `None` before the first.
///
/// # Errors
/// [`Error::Database`].
pub async fn heard(pool: &PgPool) -> Result<Option<Heartbeat>, Error> {
    store::heartbeat(pool).await
}
