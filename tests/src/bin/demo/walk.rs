//! The walk: processes, load, stages, kills, and the way back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::load::{Load, Plan};
use tests::{Operator, Shop, until};

use crate::args::{Args, Break};
use crate::progress::Progress;
use crate::report::Stage;
use crate::thief::{self, Places};

/// The tenants whose clients order.
pub(crate) const TENANTS: [&str; 3] = ["acme", "globex", "initech"];
/// Between two looks at processes and clocks.
const LOOK: Duration = Duration::from_millis(250);
/// How long a killed process stays away.
const AWAY: Duration = Duration::from_secs(2);
/// How long a queue may take to fill for the thief.
const THEFT_TIMEOUT: Duration = Duration::from_secs(20);
/// How long payments may take to change their home. One with an unknown outcome stays until it is known.
const MOVES_TIMEOUT: Duration = Duration::from_secs(90);
/// What a thief takes.
const LOOT: i64 = 3;

/// The demo on its way.
pub(crate) struct Walk<'a> {
    pub(crate) args: &'a Args,
    pub(crate) shop: &'a Shop<'a>,
    pub(crate) progress: &'a Progress,
    pub(crate) operator: Operator,
    pub(crate) stages: Vec<Stage>,
    /// Where the stage before ended.
    pub(crate) mark: Mark,
}

/// A moment, and what had happened until then.
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    at: Instant,
    accepted: usize,
    places: Places,
}

impl Mark {
    /// Before anything has happened.
    pub(crate) fn start() -> Self {
        Self { at: Instant::now(), accepted: 0, places: Places::default() }
    }
}

/// What happens to a stage while it lasts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Faults {
    None,
    Kills,
}

impl Walk<'_> {
    /// Starts everything that is there before the migration begins: no payments service yet.
    pub(crate) async fn start(&self) -> Result<()> {
        self.progress.begin("migrating both databases");
        self.shop.migrate(&TENANTS).await?;
        self.progress.begin("starting provider, monolith and relay");
        let broken = self.args.broken == Some(Break::Charge);
        let url = self.shop.webhook_url();
        let provider = [
            ("PROVIDER_WEBHOOK_URL", url.as_str()),
            ("PROVIDER_IGNORE_IDEMPOTENCY", if broken { "true" } else { "false" }),
        ];
        self.shop.start_provider(&provider).await?;
        self.shop.start_monolith("monolith", "web,inbox,controller").await?;
        self.shop.start_monolith("relay", "relay").await?;
        self.progress.say("provider, monolith and relay run");
        Ok(())
    }

    /// Clients of all tenants at the rate asked for.
    pub(crate) async fn load(&self) -> Result<Load> {
        let clients = TENANTS.iter().map(|tenant| self.shop.client(tenant)).collect::<Result<Vec<_>>>()?;
        Load::start(Plan { rate: self.args.rate, ..Plan::default() }, clients).await.context("start the load")
    }

    /// Forward, back, and forward again.
    pub(crate) async fn stages(&mut self, load: &Load) -> Result<()> {
        self.mark.at = Instant::now();
        self.stage("local", load, Faults::None).await?;
        self.progress.begin("starting the payments service");
        self.shop.start_service("payments-service", "all").await?;
        self.operator.follow().await?;
        self.stage("following", load, Faults::None).await?;
        self.operator.ramp(0).await?;
        self.stage("ramping 0 %", load, Faults::None).await?;
        self.operator.ramp(25).await?;
        self.stage("ramping 25 %", load, Faults::Kills).await?;
        self.operator.ramp(100).await?;
        self.stage("ramping 100 %", load, Faults::None).await?;
        let says = self.operator.rollback().await?;
        self.progress.say(&format!("rolled back: {says}"));
        self.until("all payments to be back", |places| places.at_target + places.moving == 0).await?;
        self.stage("rolled back", load, Faults::None).await?;
        self.operator.ramp(100).await?;
        self.stage("ramping 100 % again", load, Faults::None).await
    }

    /// Waits, under load, for payments to have changed their home.
    async fn until(&self, what: &str, done: impl Fn(&Places) -> bool) -> Result<()> {
        let started = Instant::now();
        self.progress.begin(what);
        until(what, MOVES_TIMEOUT, async || {
            let places = thief::places(&self.shop.source).await?;
            ensure!(done(&places), "{places:?}");
            Ok(Some(()))
        })
        .await?;
        let places = thief::places(&self.shop.source).await?;
        self.progress.say(&format!(
            "{} payments at the source, {} at the target after {:.1} s",
            places.at_source,
            places.at_target,
            started.elapsed().as_secs_f64()
        ));
        Ok(())
    }

    /// A stage that was entered lasts for a while. What its gates took counts as its own time.
    async fn stage(&mut self, name: &str, load: &Load, faults: Faults) -> Result<()> {
        self.progress.begin(&format!("stage {name}"));
        let lasts = Duration::from_secs(self.args.seconds_per_stage);
        let end = Instant::now() + lasts;
        let mut done = Vec::new();
        if faults == Faults::Kills {
            self.pass(end - lasts * 3 / 4, name, load).await?;
            self.kill("payments-service", &mut done).await?;
            self.pass(Instant::now() + LOOK * 4, name, load).await?;
            self.kill("relay", &mut done).await?;
        }
        self.pass(end, name, load).await?;
        let places = thief::places(&self.shop.source).await?;
        let now = Mark { at: Instant::now(), accepted: load.book().accepted(), places };
        let before = std::mem::replace(&mut self.mark, now);
        let stage = Stage {
            name: name.to_owned(),
            seconds: ((now.at - before.at).as_secs_f64() * 10.0).round() / 10.0,
            accepted: now.accepted - before.accepted,
            born_at_source: places.born_at_source - before.places.born_at_source,
            born_at_target: places.born_at_target - before.places.born_at_target,
            at_target: places.at_target,
            faults: done,
        };
        let (accepted, born) = (stage.accepted, stage.born_at_target);
        self.progress
            .say(&format!("stage {name}: {accepted} orders accepted, {born} payments born at the target"));
        self.stages.push(stage);
        Ok(())
    }

    /// Lets time pass under load, as long as every process lives.
    async fn pass(&self, end: Instant, name: &str, load: &Load) -> Result<()> {
        while Instant::now() < end {
            self.shop.world.all_alive().await?;
            self.progress.at(format!("stage {name}: {} orders accepted", load.book().accepted()));
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// `kill -9`, a while without it, and again.
    async fn kill(&self, name: &str, done: &mut Vec<String>) -> Result<()> {
        let spec = self.shop.world.kill(name).await?;
        self.progress.say(&format!("kill -9 {name}"));
        tokio::time::sleep(AWAY).await;
        if name == "relay" && self.args.broken == Some(Break::Relay) {
            self.steal().await?;
        }
        self.shop.start_ready(spec).await?;
        self.progress.say(&format!("{name} is back"));
        done.push(format!("kill -9 {name}"));
        Ok(())
    }

    /// Deletes rows of the relay's queue while it is away, so that none of them can have been sent.
    async fn steal(&self) -> Result<()> {
        until("enough events to steal from", THEFT_TIMEOUT, async || {
            Ok((thief::queue(&self.shop.source).await? > LOOT * 4).then_some(()))
        })
        .await?;
        for key in thief::steal(&self.shop.source, LOOT).await? {
            self.progress.say(&format!("broken on purpose: {key} was deleted from the relay's queue"));
        }
        Ok(())
    }
}
