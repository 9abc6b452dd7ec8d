//! Whether there is room for another notice, by a number that is a few seconds old.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::PgPool;
use tokio::time::Instant;

use crate::store;

/// How long a webhook waits for the notices to be counted, at most.
const COUNT_TIMEOUT: Duration = Duration::from_secs(2);

/// How many notices are open, as somebody counted last. Counting reads each of them, and costs the most when there are many and
/// their owners are away; so it is not done at each webhook, and the bound may be passed by what comes between two counts.
#[derive(Debug, Default)]
pub(crate) struct Room(Mutex<Count>);

#[derive(Debug, Default)]
struct Count {
    begun: Option<Instant>,
    open: i64,
}

impl Room {
    /// Whether fewer than `open_max` notices are open. One caller counts when the number is older than `every`, while others go
    /// by the one before (0 at first). Where counting fails that one serves for as long again: what can be stored is not refused
    /// for want of a number.
    pub(crate) async fn is_left(&self, pool: &PgPool, open_max: i64, every: Duration) -> bool {
        if let Some(open) = self.fresh(every) {
            return open < open_max;
        }
        match tokio::time::timeout(COUNT_TIMEOUT, store::count_open(pool, open_max)).await {
            Ok(Ok(open)) => self.with(|count| count.open = open),
            Ok(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "open notices can't be counted; trying again");
            }
            Err(_) => tracing::warn!("open notices can't be counted in time; trying again"),
        }
        self.with(|count| count.open) < open_max
    }

    /// The number, unless the caller has to count: its age begins again here, so that only one does, and a caller that leaves in
    /// the middle is not followed by the next at once.
    fn fresh(&self, every: Duration) -> Option<i64> {
        self.with(|count| {
            if count.begun.is_some_and(|begun| begun.elapsed() < every) {
                return Some(count.open);
            }
            count.begun = Some(Instant::now());
            None
        })
    }

    fn with<T>(&self, change: impl FnOnce(&mut Count) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
