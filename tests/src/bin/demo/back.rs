//! The way back, out of the middle of the hand-over, and old payments that are refunded on it.

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use tests::load::Load;

use crate::moves::Home;
use crate::past::{Old, Past};
use crate::store;
use crate::walk::Walk;

/// Old payments that are refunded in the middle of the hand-over, half of them at each home, and again when all are back.
const REFUNDS: usize = 20;

impl Walk<'_> {
    /// Refunds old payments that have gone, and others that have not. The oldest go first, the youngest last.
    pub(crate) async fn refund_at_both(&mut self, past: &Past) -> Result<()> {
        self.progress.begin("refunding old payments that have gone, and others that have not");
        let half = REFUNDS / 2;
        let last = past.count().saturating_sub(half);
        let some: Vec<&Old> = past.some(self.refunded, half).chain(past.some(last, half)).collect();
        self.refund(&some).await?;
        self.refunded += half;
        let keys: Vec<String> = some.iter().map(|old| old.payment_id.to_string()).collect();
        let at_source = store::refunded(&self.shop.source, &keys).await?;
        let at_target = store::refunded(&self.shop.target, &keys).await?;
        self.progress.say(&format!(
            "{} old payments were refunded in part: {at_target} at the target, {at_source} at the source",
            keys.len()
        ));
        ensure!(
            at_source > 0 && at_target > 0,
            "old payments were refunded at one home only, so the hand-over was not in its middle: take more of them (--old)"
        );
        Ok(())
    }

    /// Rolls back while some of the old payments have gone and others have not, with what was written at the target. All come home, and
    /// some of them are written at the source.
    pub(crate) async fn back(&mut self, load: &Load, past: &Past) -> Result<()> {
        self.progress.begin("rolling back");
        let says = self.operator.rollback().await?;
        // At once: none that is called back has come home yet.
        let old = store::homes_through(&self.shop.source, past.youngest()?).await?;
        self.progress.say(&format!("rolled back: {says}"));
        self.end("primary, in part", load, Vec::new()).await?;
        let (at_source, at_target) = (old.owned_by_source(), old.owned_by_target());
        self.progress.say(&format!(
            "of the old payments {at_target} were the target's, and {at_source} still the source's"
        ));
        ensure!(
            at_source > 0 && at_target > 0,
            "the rollback did not meet the hand-over in its middle: take more old payments (--old)"
        );
        let written = store::written(&self.shop.target).await?;
        self.walked.written_at_target = written;
        self.progress.say(&format!("{written} payments were written at the target"));
        ensure!(written > 0, "nothing was written at the target: the way back would show nothing");
        self.all_at(Home::Source).await?;
        self.drained().await?;

        self.progress.begin("refunding some of the old payments");
        let some: Vec<&Old> = past.some(self.refunded, REFUNDS).collect();
        self.refund(&some).await?;
        self.refunded += some.len();
        self.progress.say(&format!("{} old payments were refunded in part at the source", some.len()));
        Ok(())
    }

    /// At the same time: the hand-over does not wait.
    async fn refund(&self, some: &[&Old]) -> Result<()> {
        try_join_all(some.iter().map(|old| old.refund(self.shop))).await?;
        Ok(())
    }
}
