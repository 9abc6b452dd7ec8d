//! Cursors beside the heads of their own database. A lost tail shows nowhere else: no gate misses what never came.

use std::time::Duration;

use sqlx::{PgConnection, PgPool};
use tokio_util::sync::CancellationToken;

use super::InboxOptions;
use crate::{Error, Topic, database::Database, store};

/// Heads compared in one statement.
const PAGE_MAX: i32 = 1_000;

/// Keys listed, at most: more of them are one trouble, not many.
const BEHIND_MAX: usize = 10_000;

/// A key of which a handler has not applied all that its home published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behind {
    /// The key.
    pub key: String,
    /// The version that was published last.
    pub head: i64,
    /// The version that the handler applied last; 0 for none.
    pub applied: i64,
}

/// Compares a handler's cursors with the heads of the same database: the keys, at most 10,000, whose last event was
/// published here more than `older_than` ago and is delivered, but not applied, though nothing of the key waits. Either the
/// log lost it, or the handler is that far behind. The pool's role is the handler's. Reads all heads of the topic, in pages.
///
/// What other databases publish is not compared: their heads are not known here.
///
/// # Errors
/// [`Error::Denied`] for a role that is not the handler's; [`Error::Database`].
pub async fn compare(
    pool: &PgPool,
    handler: &str,
    topic: Topic,
    older_than: Duration,
) -> Result<Vec<Behind>, Error> {
    let database = Database::new(pool.clone(), InboxOptions::default().statement_timeout);
    let at = (handler, topic.name());
    compare_until(&database, at, (older_than, PAGE_MAX), &CancellationToken::new()).await
}

/// Compares page by page, until the end, the stop, or enough keys.
pub(super) async fn compare_until(
    database: &Database,
    at: (&str, &str),
    bounds: (Duration, i32),
    stop: &CancellationToken,
) -> Result<Vec<Behind>, Error> {
    let mut behind = Vec::new();
    let mut after = Some(String::new());
    while let Some(from) = after.take().filter(|_| behind.len() < BEHIND_MAX && !stop.is_cancelled()) {
        let asked = database.with(async |db| compare_page(db, at, &from, bounds, &mut behind).await);
        after = asked.await?;
    }
    behind.truncate(BEHIND_MAX);
    Ok(behind)
}

/// Compares one page and returns the key to go on after.
async fn compare_page(
    db: &mut PgConnection,
    at: (&str, &str),
    after: &str,
    (older_than, page_max): (Duration, i32),
    behind: &mut Vec<Behind>,
) -> Result<Option<String>, Error> {
    let mut page_end = None;
    for row in store::compare(db, at, after, older_than, page_max).await? {
        page_end = row.page_end;
        if let (Some(key), Some(head), Some(applied)) = (row.key, row.head, row.applied) {
            behind.push(Behind { key, head, applied });
        }
    }
    Ok(page_end)
}
