//! How far a handler is.

use std::collections::BTreeMap;

use sqlx::{Connection as _, PgPool};

use crate::{
    Error, Topic,
    database::{Database, READ_BOUNDED, READ_MAX},
    store,
};

/// How far a handler is: of some keys exactly, of all others what waits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// The last version applied of each key that was asked for; a key of which nothing was applied is missing.
    pub versions: BTreeMap<String, i64>,
    /// Events, of all keys, that wait: for an earlier one, for another try, or as dead letters for an operator; and keys of which events
    /// are known by their versions only.
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
/// published here, the key written last first. Empty before the first event; what other homes published is never part of it, nor are the keys `except`, such as
/// one of heartbeats. The database may work for 10 s on it, and one that says nothing is given up a second later. The pool's role
/// needs [`crate::grant_relay`].
///
/// # Errors
/// [`Error::Database`], also when no answer came in time; [`Error::Denied`].
pub async fn recent_heads(
    pool: &PgPool,
    topic: Topic,
    except: &[&str],
    limit: i64,
) -> Result<Vec<(String, i64)>, Error> {
    let database = Database::new(pool.clone(), READ_MAX);
    let mut line = database.line().await?;
    let mut tx = database.hear(line.begin_with(READ_BOUNDED)).await?;
    let heads = database.hear(store::recent_heads(&mut tx, topic.name(), except, limit)).await?;
    database.hear(tx.commit()).await?;
    Ok(line.done(heads))
}
