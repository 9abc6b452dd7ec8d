//! How far a handler is.

use std::collections::BTreeMap;

use sqlx::PgPool;

use crate::{Error, Topic, store};

/// How far a handler is: of some keys exactly, of all others what waits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// The last version applied of each key that was asked for; a key of which nothing was applied is missing.
    pub versions: BTreeMap<String, i64>,
    /// Events, of all keys, that wait for an earlier one or were refused.
    pub parked: i64,
    /// Keys, of all, that can't go on without a snapshot.
    pub awaiting: i64,
}

/// Reads how far a handler is. The pool's role needs [`crate::grant_relay`].
///
/// # Errors
/// [`Error::Database`], [`Error::Denied`].
pub async fn progress(
    pool: &PgPool,
    handler: &str,
    topic: Topic,
    keys: &[String],
) -> Result<Progress, Error> {
    let versions = store::cursors(pool, handler, topic.name(), keys).await?.into_iter().collect();
    let parked = store::parked_count(pool, handler).await?;
    let awaiting = store::awaiting_count(pool, handler).await?;
    Ok(Progress { versions, parked, awaiting })
}

/// What this home published last to a topic, from its own log: of the keys of the last `limit` events, the last version
/// published here. Empty before the first event; what other homes published is never part of it, nor are the keys `except`, such as
/// one of heartbeats. The pool's role needs [`crate::grant_relay`].
///
/// # Errors
/// [`Error::Database`], [`Error::Denied`].
pub async fn recent_heads(
    pool: &PgPool,
    topic: Topic,
    except: &[&str],
    limit: i64,
) -> Result<Vec<(String, i64)>, Error> {
    Ok(store::recent_heads(pool, topic.name(), except, limit).await?)
}
