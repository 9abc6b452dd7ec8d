//! Waiting, under load, for payments to be where they go.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::until;

use crate::past::Past;
use crate::store::{self, Homes};
use crate::walk::Walk;

/// How long a backfill, or a change of the home of all payments, may take: one with an unknown outcome stays until it is known.
const MOVES_TIMEOUT: Duration = Duration::from_secs(180);
/// And a second more for so many old payments.
const MOVED_A_SECOND: u32 = 40;
/// How long the controller may take to see that all are back.
const LOOK_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two counts of all payments while some are elsewhere.
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// Old payments that are refunded at each home.
const REFUNDS: usize = 20;

/// A home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home {
    Source,
    Target,
}

impl Walk<'_> {
    fn bound(&self) -> Duration {
        MOVES_TIMEOUT + Duration::from_secs(u64::from(self.args.old / MOVED_A_SECOND))
    }

    /// Waits until the target has a copy of each payment that is older than what it knows.
    pub(crate) async fn filled(&self) -> Result<()> {
        let started = Instant::now();
        self.progress.begin("the backfill");
        let filled = until("the backfill to be done", self.bound(), async || {
            let status = self.operator.status().await?;
            let backfill = status.get("backfill").context("the status has no backfill")?;
            let (done, of) = (count(backfill, "done"), count(backfill, "of"));
            self.progress.at(format!("the backfill: {done} of {of} payments"));
            ensure!(!backfill["done_at"].is_null(), "{backfill}");
            Ok(Some(backfill.clone()))
        });
        let filled = filled.await?;
        let (published, seconds) = (count(&filled, "published"), started.elapsed().as_secs_f64());
        self.progress.say(&format!("backfill: {published} payments were published in {seconds:.1} s"));
        Ok(())
    }

    /// Waits until all payments are at one home.
    pub(crate) async fn all_at(&self, home: Home) -> Result<()> {
        let started = Instant::now();
        let before = store::homes(&self.shop.source).await?;
        let what = format!("all payments to be at the {}", home.name());
        self.progress.begin(&what);
        let (mut seen, mut counted) = (before, started);
        let homes = until(&what, self.bound(), async || {
            self.shop.world.all_alive().await?;
            let away = store::any_away(&self.shop.source, home.name()).await?;
            ensure!(!away || counted.elapsed() >= COUNT_EVERY, "{seen:?}");
            seen = store::homes(&self.shop.source).await?;
            counted = Instant::now();
            let Homes { source, target, moving } = seen;
            self.progress.at(format!(
                "{source} payments at the source, {target} at the target, {moving} on their way"
            ));
            ensure!(home.has_all(seen), "{seen:?}");
            Ok(Some(seen))
        });
        let Homes { source, target, .. } = homes.await?;
        let took = started.elapsed();
        let moved = home.away(before);
        let rate = moved * 1_000 / i64::try_from(took.as_millis())?.max(1);
        let seconds = took.as_secs_f64();
        self.progress.say(&format!(
            "{moved} payments moved in {seconds:.1} s, {rate} a second: {source} at the source, {target} at the target"
        ));
        Ok(())
    }

    /// Waits until the controller has seen that nothing is left at the target.
    pub(crate) async fn drained(&self) -> Result<()> {
        until("the controller to see that all are back", LOOK_TIMEOUT, async || {
            let status = self.operator.status().await?;
            let (stage, draining) = (&status["stage"], &status["draining"]);
            ensure!(stage == "following" && draining == false, "stage {stage}, draining {draining}");
            Ok(Some(()))
        })
        .await
    }

    /// Refunds the next of the old payments, at whichever home they are now.
    pub(crate) async fn refund(&mut self, past: &Past) -> Result<()> {
        self.progress.begin("refunding some of the old payments");
        for old in past.some(self.refunded, REFUNDS) {
            old.refund(self.shop).await?;
        }
        self.refunded += REFUNDS;
        self.progress.say(&format!("{REFUNDS} of the old payments were refunded in part"));
        Ok(())
    }
}

impl Home {
    fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Target => "target",
        }
    }

    fn has_all(self, homes: Homes) -> bool {
        self.away(homes) == 0
    }

    /// How many are not there.
    fn away(self, homes: Homes) -> i64 {
        match self {
            Self::Source => homes.target + homes.moving,
            Self::Target => homes.source + homes.moving,
        }
    }
}

fn count(backfill: &Value, field: &str) -> i64 {
    backfill.get(field).and_then(Value::as_i64).unwrap_or(0)
}
