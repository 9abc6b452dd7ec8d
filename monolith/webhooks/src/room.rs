//! Whether there is room for another notice, by a number that is a few seconds old.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::PgPool;
use tokio::time::Instant;

use crate::store;

/// How many notices are open, as somebody counted last. Counting reads each of them, and costs the most when there are many and
/// their owners are away; so it is not done at each webhook. What this process stored since is added; what others stored between two
/// counts may pass the bound.
#[derive(Debug, Default)]
pub(crate) struct Room(Mutex<Count>);

#[derive(Debug, Default)]
struct Count {
    begun: Option<Instant>,
    open: i64,
    /// Stored here since the count that gave `open` began.
    stored: i64,
    /// Stored here since the last count began.
    stored_meanwhile: i64,
}

impl Room {
    /// Whether fewer than `open_max` notices are open. One caller counts when the number is older than `every`, while others go
    /// by the one before (0 at first). Where counting fails that one serves for as long again.
    pub(crate) async fn is_left(&self, pool: &PgPool, open_max: i64, every: Duration) -> bool {
        if self.is_to_count(every) {
            match store::count_open(pool, open_max).await {
                Ok(open) => self.with(|count| (count.open, count.stored) = (open, count.stored_meanwhile)),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "open notices can't be counted; trying again");
                }
            }
        }
        self.with(|count| count.open + count.stored) < open_max
    }

    /// Another notice was stored here.
    pub(crate) fn stored(&self) {
        self.with(|count| {
            count.stored += 1;
            count.stored_meanwhile += 1;
        });
    }

    /// Whether the caller has to count: the number's age begins again here, so that only one does, and a caller that leaves in the
    /// middle is not followed by the next at once.
    fn is_to_count(&self, every: Duration) -> bool {
        self.with(|count| {
            if count.begun.is_some_and(|begun| begun.elapsed() < every) {
                return false;
            }
            count.begun = Some(Instant::now());
            count.stored_meanwhile = 0;
            true
        })
    }

    fn with<T>(&self, change: impl FnOnce(&mut Count) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
