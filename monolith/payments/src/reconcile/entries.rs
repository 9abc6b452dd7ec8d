//! The books' side: money whose line was not seen, in bounded batches.

use uuid::Uuid;

use super::Run;
use super::absent::{Patience, absent, first_id};
use crate::{Error, store};

/// Transactions at once.
const BATCH_MAX: i64 = 500;
/// Settled transactions that are forgotten at once.
const FORGET_MAX: i64 = 10_000;
/// How long before the window a line may have been settled and still be asked for.
const KEPT: time::Duration = time::Duration::days(2);

impl Run<'_> {
    /// Opens what is late or missing of the commands since the start, and forgets which lines settled older ones.
    pub(super) async fn entries(&self) -> Result<(), Error> {
        let patience = Patience {
            late_after: time::Duration::try_from(self.config.late_after).unwrap_or(time::Duration::MAX),
            missing_after: time::Duration::try_from(self.config.missing_after).unwrap_or(time::Duration::MAX),
        };
        let until = first_id(self.now - patience.late_after);
        let mut after = first_id(self.start);
        loop {
            let batch = store::unseen(&self.home.pool, after, until, BATCH_MAX).await?;
            for found in batch.iter().filter_map(|entry| absent(entry, self.now, patience)) {
                // There may be very many of them.
                self.going()?;
                self.open(&found).await?;
            }
            match batch.last() {
                Some(last) if batch.len() >= usize::try_from(BATCH_MAX).unwrap_or(usize::MAX) => {
                    after = last.transaction;
                }
                _ => break,
            }
        }
        self.forget(first_id(self.start - KEPT)).await
    }

    async fn forget(&self, before: Uuid) -> Result<(), Error> {
        let full = u64::try_from(FORGET_MAX).unwrap_or(u64::MAX);
        while store::forget_settled(&self.home.pool, before, FORGET_MAX).await? == full {}
        Ok(())
    }
}
