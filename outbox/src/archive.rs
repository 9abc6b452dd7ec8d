//! Heads and cursors of keys whose stream has ended, moved out of the way.
//!
//! An archived key is not a dead one. A late duplicate of one of its events is a duplicate, and a publish to it goes on with its
//! next version: whoever would begin it anew finds it and takes it back.

use std::time::Duration;

use sqlx::PgPool;

use crate::{Error, Topic, audit::explained, store};

/// Keys, or events of the log, that one statement takes. Their rows are locked so long.
const BATCH: usize = 1_000;

/// Archives those of `keys` that are at rest in this database: the last event is older than `quiet` and delivered, every handler
/// has applied it, nothing waits. The others are passed over, and so is a key that somebody is working on: it waits for nobody.
/// Each batch of 1,000 keys is a transaction with a row in the audit. Returns how many were archived. The pool's role needs
/// [`crate::grant_operator`].
///
/// # Errors
/// [`Error::Denied`], [`Error::Database`]; what earlier batches archived stays archived.
pub async fn keys(
    pool: &PgPool,
    topic: Topic,
    keys: &[String],
    quiet: Duration,
    actor: &str,
    reason: &str,
) -> Result<u64, Error> {
    explained(actor, reason)?;
    let mut archived = 0;
    for batch in keys.chunks(BATCH) {
        let done = store::archive_keys(pool, topic.name(), batch, quiet, (actor, reason)).await?;
        archived += u64::try_from(done).unwrap_or(0);
    }
    Ok(archived)
}

/// What [`ended`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// Keys archived.
    pub archived: u64,
    /// The position of the last event looked at: the next sweep goes on after it.
    pub position: i64,
}

/// Archives the keys whose last event, published here, is of one of `kinds`: those after which nothing follows. Looks through the
/// log from `after` (0 at first) to the first event that is younger than `quiet`, and then as [`keys`]. A key that is not at rest
/// yet when it is passed is not looked at again, so let `quiet` be hours.
///
/// # Errors
/// As [`keys`].
pub async fn ended(
    pool: &PgPool,
    topic: Topic,
    kinds: &[&str],
    quiet: Duration,
    after: i64,
    (actor, reason): (&str, &str),
) -> Result<Swept, Error> {
    explained(actor, reason)?;
    let mut swept = Swept { archived: 0, position: after };
    let most = i32::try_from(BATCH).unwrap_or(i32::MAX);
    loop {
        let page = (swept.position, most);
        let (looked, archived) =
            store::archive_ended(pool, topic.name(), kinds, quiet, page, (actor, reason)).await?;
        swept.archived += u64::try_from(archived).unwrap_or(0);
        match looked {
            Some(position) => swept.position = position,
            None => return Ok(swept),
        }
    }
}
