//! Who walks the migration, while customers read and change prices.

use std::sync::Arc;

use prices::{Prices, Shown};
use strangler::{Advance, Asked, BoxError, Controller, Home, Seam, Stage, Verdict};

use crate::world::eventually;

/// How many prices the shop had before it had an outbox, all of one tenant.
pub(crate) const OLD: i32 = 40;
const BY: &str = "a test";

pub(crate) struct Operator {
    pub(crate) controller: Controller,
    pub(crate) seam: Seam<Prices>,
}

impl Operator {
    /// Walks forward, a step at a time, until a stage is entered, and does what the gates of each step ask for.
    pub(crate) async fn walk(&self, until: Stage) -> Result<(), BoxError> {
        loop {
            let stage = self.stage().await?;
            if stage == until {
                return Ok(());
            }
            let next = stage.next().ok_or_else(|| format!("no stage comes after {stage}"))?;
            let step = match next {
                Stage::Shadowing => {
                    self.filled().await?;
                    Advance::to(next)
                }
                // Only reads of the cohort go to copies: all of them here.
                Stage::Reading => Advance { percent: Some(100), ..Advance::to(next) },
                Stage::Ramping => Advance::ramp(100),
                Stage::Local | Stage::Following | Stage::Primary | Stage::Sealed | Stage::Removed => {
                    Advance::to(next)
                }
            };
            self.enter(&step).await?;
        }
    }

    /// Takes a step, with customers reading as long as its gates want to see more of that.
    pub(crate) async fn enter(&self, step: &Advance) -> Result<(), BoxError> {
        if matches!(step.to, Some(Stage::Reading | Stage::Ramping)) {
            self.read_enough(step).await?;
        }
        assert!(self.controller.advance(step, BY).await?.entered);
        Ok(())
    }

    /// Reads all old prices, again and again, until a step's gates pass. Those that count reads are the last that may be open.
    pub(crate) async fn read_enough(&self, step: &Advance) -> Result<(), BoxError> {
        let look = Advance { dry_run: true, ..step.clone() };
        let allowed = async || {
            for n in 1..=OLD {
                self.read(&format!("old-{n}")).await?;
            }
            let Some(refused) = self.controller.advance(&look, BY).await?.refused else { return Ok(true) };
            assert!(refused.rule.contains("reads` of stage"), "{}", refused.rule);
            Ok::<_, BoxError>(false)
        };
        eventually(&format!("enough was read for {step:?}"), allowed).await
    }

    /// Returns once the target lacks nothing and the copies were compared.
    pub(crate) async fn filled(&self) -> Result<(), BoxError> {
        let done = async || {
            let backfill = self.controller.status().await?.backfill;
            Ok::<_, BoxError>(backfill.is_some_and(|fill| fill.done_at.is_some()))
        };
        eventually("the backfill is done", done).await?;
        let parity = self.controller.parity(BY).await?;
        assert_eq!(parity.verdict, Verdict::Pass, "{}", parity.found);
        Ok(())
    }

    /// Goes back, and returns once the last key is home.
    pub(crate) async fn roll_back(&self) -> Result<(), BoxError> {
        self.controller.rollback(None, BY).await?;
        let back = async || Ok::<_, BoxError>(self.stage().await? == Stage::Following);
        eventually("the stage is following again", back).await
    }

    /// Returns once all keys are settled at a home that knows it.
    pub(crate) async fn all_at(&self, home: Home, count: i64) -> Result<(), BoxError> {
        let there = async || {
            let keys = self.controller.status().await?.keys;
            let settled = match home {
                Home::Source => keys.source,
                Home::Target => keys.target,
            };
            Ok::<_, BoxError>(settled == count && keys.granting == 0)
        };
        eventually(&format!("{count} keys are the {home}'s"), there).await
    }

    /// Reads a price as the stage has it.
    pub(crate) async fn read(&self, sku: &str) -> Result<Shown, BoxError> {
        let asked = Asked { tenant: "acme", key: sku, at_least: 0 };
        let key = sku.to_owned();
        let run = move |home: Arc<Prices>, reading| {
            let key = key.clone();
            async move { home.find(&key, reading).await }
        };
        self.seam.read_versioned(asked, run).await
    }

    /// Changes a price wherever it lives. No later read here shows an older one.
    pub(crate) async fn set(&self, sku: &str, minor: i64) -> Result<(), BoxError> {
        let version = self.seam.write(sku, |home, _| async move { home.set(sku, minor).await }).await?;
        self.seam.shown(sku, version);
        Ok(())
    }

    async fn stage(&self) -> Result<Stage, BoxError> {
        Ok(self.controller.status().await?.policy.stage)
    }
}
