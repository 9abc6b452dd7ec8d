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
/// The first hand-over has come far enough when one in so many of the old payments is at the target.
const PART: i64 = 10;
/// Between two counts of all payments while some are elsewhere.
const COUNT_EVERY: Duration = Duration::from_secs(1);

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

    /// Waits until some of the old payments are at the target, while the others wait for their turn.
    pub(crate) async fn some_at_target(&self, past: &Past) -> Result<()> {
        let started = Instant::now();
        let (youngest, part) = (past.youngest()?, i64::from(self.args.old) / PART);
        let what = format!("{part} of the old payments to be at the target");
        self.progress.begin(&what);
        let homes = until(&what, self.bound(), async || {
            self.shop.world.all_alive().await?;
            let homes = store::homes_through(&self.shop.source, youngest).await?;
            self.progress.at(format!("old payments: {homes}"));
            ensure!(homes.target >= part, "{homes}");
            Ok(Some(homes))
        });
        let homes = homes.await?;
        let (moved, took) = (homes.target, started.elapsed());
        let (rate, seconds) = (rate(moved, took)?, took.as_secs_f64());
        self.progress.say(&format!(
            "{moved} old payments moved in {seconds:.1} s, {rate} a second; of the old ones {homes}"
        ));
        Ok(())
    }

    /// Waits until all payments are at one home.
    pub(crate) async fn all_at(&self, home: Home) -> Result<()> {
        let started = Instant::now();
        let before = store::homes(&self.shop.source).await?;
        let released = store::released(&self.shop.target).await?;
        let what = format!("all payments to be at the {}", home.name());
        self.progress.begin(&what);
        let (mut seen, mut counted) = (before, started);
        let homes = until(&what, self.bound(), async || {
            self.shop.world.all_alive().await?;
            let away = store::any_away(&self.shop.source, home.name()).await?;
            ensure!(!away || counted.elapsed() >= COUNT_EVERY, "{seen}");
            seen = store::homes(&self.shop.source).await?;
            counted = Instant::now();
            self.progress.at(format!("payments: {seen}"));
            ensure!(home.away(seen) == 0, "{seen}");
            Ok(Some(seen))
        });
        let (homes, took) = (homes.await?, started.elapsed());
        let moved = match home {
            // Not all that were away: what was on its way when the hand-over was rolled back may never have been the target's.
            Home::Source => store::released(&self.shop.target).await? - released,
            Home::Target => home.away(before),
        };
        let (rate, seconds) = (rate(moved, took)?, took.as_secs_f64());
        self.progress.say(&format!("{moved} payments moved in {seconds:.1} s, {rate} a second: {homes}"));
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
}

impl Home {
    fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Target => "target",
        }
    }

    /// How many are not there.
    fn away(self, homes: Homes) -> i64 {
        match self {
            Self::Source => homes.target + homes.between(),
            Self::Target => homes.source + homes.between(),
        }
    }
}

/// How many moved in a second.
fn rate(moved: i64, took: Duration) -> Result<i64> {
    Ok(moved * 1_000 / i64::try_from(took.as_millis())?.max(1))
}

fn count(backfill: &Value, field: &str) -> i64 {
    backfill.get(field).and_then(Value::as_i64).unwrap_or(0)
}
