//! What goes on behind the clients' backs: the migration takes a step, and processes die.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use tests::{Operator, Shop, Side, until};

use crate::handover::{count, until_all_at};

/// Until an answer comes from a controller that may just be starting.
const SOON: Duration = Duration::from_secs(60);
/// Until the status shows what was asked for; a step through several stages asks the gates of each.
const STEP: Duration = Duration::from_secs(300);
/// A step whose answer was lost is looked at, and tried again so often.
const TRIES_MAX: usize = 4;
/// A process dies after at most so many more answers.
const ANSWERS_MAX: usize = 40;

/// Steps and deaths of one day.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// What the migration did.
    pub(super) moved: Vec<&'static str>,
    /// Whose process died, in order.
    pub(super) killed: Vec<Side>,
}

/// What a seed decides beforehand.
#[derive(Clone, Debug)]
struct Draw {
    back: bool,
    percent: u8,
    deaths: Vec<(Side, usize)>,
}

/// Disturbs a shop.
pub(super) struct Havoc<'a> {
    shop: &'a Shop<'a>,
    operator: Operator,
    /// Steps that clients have got an answer to.
    answered: &'a AtomicUsize,
}

impl Draw {
    fn from(random: &mut StdRng) -> Self {
        let back = random.random_bool(0.4);
        let percent = [30, 60, 100][random.random_range(0..3_usize)];
        let sides: &[Side] = match random.random_range(0..10_u8) {
            0 => &[],
            1..=4 => &[Side::Source],
            5..=8 => &[Side::Target],
            _ => &[Side::Target, Side::Source],
        };
        let deaths = sides.iter().map(|side| (*side, random.random_range(1..=ANSWERS_MAX))).collect();
        Self { back, percent, deaths }
    }
}

impl<'a> Havoc<'a> {
    pub(super) fn new(shop: &'a Shop<'a>, answered: &'a AtomicUsize) -> Result<Self> {
        Ok(Self { shop, operator: shop.operator()?, answered })
    }

    /// One step of the migration, and meanwhile a death or two.
    pub(super) async fn step(&self, random: &mut StdRng) -> Result<Step> {
        let draw = Draw::from(random);
        let (moved, killed) =
            tokio::try_join!(Box::pin(self.go(&draw)), Box::pin(self.kill_some(&draw.deaths)))?;
        Ok(Step { moved, killed })
    }

    /// No key is on its way any more.
    pub(super) async fn comes_to_rest(&self) -> Result<()> {
        let status = self.status().await?;
        match (stage(&status), is_draining(&status)) {
            (_, true) => until_all_at(&self.operator, "source").await,
            ("primary", false) => until_all_at(&self.operator, "target").await,
            _ => {
                until("no key to be on its way", SOON, async || {
                    let status = self.operator.status().await?;
                    let left = ["moving", "recalling", "granting"].map(|place| count(&status, place));
                    ensure!(left == [0; 3], "{}", status["keys"]);
                    Ok(Some(()))
                })
                .await
            }
        }
    }

    /// From wherever it is, on or back.
    async fn go(&self, draw: &Draw) -> Result<Vec<&'static str>> {
        let status = self.status().await?;
        match (stage(&status), is_draining(&status)) {
            ("local", _) => {
                self.until_it_is(
                    "following",
                    async || self.operator.follow().await,
                    |status| stage(status) == "following",
                )
                .await?;
                Ok(vec!["follow"])
            }
            // Called back while some have not come, or only after the last one has.
            ("ramping", true) if draw.back => {
                self.ramp(draw.percent).await?;
                Ok(vec!["ramp before all are back"])
            }
            (_, true) => {
                until_all_at(&self.operator, "source").await?;
                Ok(vec!["all come back"])
            }
            ("ramping", false) if !draw.back => {
                if status["percent"] != json!(100) {
                    self.ramp(100).await?;
                }
                self.until_it_is(
                    "primary",
                    async || self.operator.primary().await,
                    |status| stage(status) == "primary",
                )
                .await?;
                Ok(vec!["ramp", "primary"])
            }
            ("ramping" | "primary", false) => {
                let back = async || self.operator.rollback().await.map(drop);
                let is_back = |status: &Value| is_draining(status) || stage(status) == "following";
                self.until_it_is("rolled back", back, is_back).await?;
                Ok(vec!["rollback"])
            }
            _ => {
                self.ramp(draw.percent).await?;
                Ok(vec!["ramp"])
            }
        }
    }

    async fn ramp(&self, percent: u8) -> Result<()> {
        let is_there = move |status: &Value| {
            stage(status) == "ramping" && status["percent"] == json!(percent) && !is_draining(status)
        };
        self.until_it_is("ramping", async || self.operator.ramp(percent).await, is_there).await
    }

    /// Takes a step until it is taken. The answer may be lost in a death, so the status decides, and nothing is asked twice that was
    /// done.
    async fn until_it_is(
        &self,
        what: &str,
        take: impl AsyncFn() -> Result<()>,
        is_there: impl Fn(&Value) -> bool,
    ) -> Result<()> {
        let mut tries = 0;
        loop {
            if is_there(&self.status().await?) {
                return Ok(());
            }
            let shown =
                until(what, STEP, async || Ok(is_there(&self.operator.status().await?).then_some(())));
            let taken = tokio::select! {
                shown = shown => return shown,
                taken = take() => taken,
            };
            tries += 1;
            match taken {
                Err(error) if tries >= TRIES_MAX => return Err(error),
                // It may have been taken, or refused because it was: the status says.
                Ok(()) | Err(_) => {}
            }
            ensure!(tries <= TRIES_MAX, "{what}: {tries} steps were taken, and the status shows none");
        }
    }

    async fn status(&self) -> Result<Value> {
        until("the status", SOON, async || self.operator.status().await.map(Some)).await
    }

    async fn kill_some(&self, deaths: &[(Side, usize)]) -> Result<Vec<Side>> {
        let mut killed = Vec::new();
        for (side, after) in deaths {
            let enough = self.answered.load(Ordering::Relaxed) + after;
            until("some more answers", SOON, async || {
                Ok((self.answered.load(Ordering::Relaxed) >= enough).then_some(()))
            })
            .await?;
            let spec = self.shop.world.kill(name(*side)).await?;
            self.shop.free(*side).await?;
            self.shop.start_ready(spec).await?;
            killed.push(*side);
        }
        Ok(killed)
    }
}

/// What the process of a side is called.
pub(super) fn name(side: Side) -> &'static str {
    match side {
        Side::Source => "monolith",
        Side::Target => "payments-service",
    }
}

fn stage(status: &Value) -> &str {
    status["stage"].as_str().unwrap_or_default()
}

fn is_draining(status: &Value) -> bool {
    status["draining"] == json!(true)
}
