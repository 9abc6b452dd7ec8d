//! The walk: processes, load, stages, kills, the way back, and forward again.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tests::load::{Load, Plan};
use tests::{Operator, Shop, until};

use crate::args::{Args, Break};
use crate::moves::Home;
use crate::past::Past;
use crate::progress::Progress;
use crate::report::{Stage, Walked};
use crate::store::{self, Births};

/// The tenants whose clients order.
pub(crate) const TENANTS: [&str; 3] = ["acme", "globex", "initech"];
/// Between two looks at processes and clocks.
const LOOK: Duration = Duration::from_millis(250);
/// How long a killed process stays away.
const AWAY: Duration = Duration::from_secs(2);
/// How long a queue may take to fill for the thief.
const THEFT_TIMEOUT: Duration = Duration::from_secs(20);
/// What a thief takes.
const LOOT: i64 = 3;

/// The demo on its way.
pub(crate) struct Walk<'a> {
    pub(crate) args: &'a Args,
    pub(crate) shop: &'a Shop<'a>,
    pub(crate) progress: &'a Progress,
    pub(crate) operator: Operator,
    pub(crate) walked: Walked,
    /// How many old payments were refunded.
    pub(crate) refunded: usize,
    /// Where the stage before ended.
    mark: Mark,
}

/// A moment, and what had happened until then.
#[derive(Clone, Copy)]
struct Mark {
    at: Instant,
    accepted: usize,
    births: Births,
}

/// What happens to a stage while it lasts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Faults {
    None,
    Kills,
}

impl<'a> Walk<'a> {
    /// Before anything has happened.
    pub(crate) fn new(args: &'a Args, shop: &'a Shop<'a>, progress: &'a Progress) -> Result<Self> {
        let mark = Mark { at: Instant::now(), accepted: 0, births: Births::default() };
        let operator = shop.operator()?;
        Ok(Self { args, shop, progress, operator, walked: Walked::default(), refunded: 0, mark })
    }
}

impl Walk<'_> {
    /// Starts everything that is there before the migration begins, old payments included: no payments service yet.
    pub(crate) async fn start(&mut self) -> Result<Past> {
        self.progress.begin("migrating both databases");
        self.shop.migrate(&TENANTS).await?;
        let old = usize::try_from(self.args.old)?;
        self.progress.begin("writing payments from before");
        let past = Past::write(self.shop, &TENANTS, old).await?;
        self.walked.old = past.count();
        self.progress.say(&format!("{old} payments are there, older than the outbox"));
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
        Ok(past)
    }

    /// Clients of all tenants at the rate asked for.
    pub(crate) async fn load(&self) -> Result<Load> {
        let clients = TENANTS.iter().map(|tenant| self.shop.client(tenant)).collect::<Result<Vec<_>>>()?;
        Load::start(Plan { rate: self.args.rate, ..Plan::default() }, clients).await.context("start the load")
    }

    /// Forward to `primary`, back out of the middle of the hand-over, and forward again.
    pub(crate) async fn stages(&mut self, load: &Load, past: &Past) -> Result<()> {
        self.mark.at = Instant::now();
        self.stage("local", load, Faults::None).await?;
        self.fill(load, past).await?;
        self.ramp(load).await?;
        if self.args.broken == Some(Break::Relay) {
            self.progress.say("broken on purpose: with events lost no gate passes, so the walk ends here");
            return Ok(());
        }
        self.operator.primary().await?;
        self.some_at_target(past).await?;
        self.refund_at_both(past).await?;
        self.back(load, past).await?;
        self.stage("rolled back", load, Faults::None).await?;
        self.operator.ramp(100).await?;
        self.operator.primary().await?;
        self.all_at(Home::Target).await?;
        self.stage("primary", load, Faults::None).await
    }

    /// The service gets what it lacks, is compared, and answers reads; it owns nothing yet.
    async fn fill(&mut self, load: &Load, past: &Past) -> Result<()> {
        self.progress.begin("starting the payments service");
        self.shop.start_service("payments-service", "all").await?;
        self.operator.follow().await?;
        self.filled().await?;
        self.stage("following", load, Faults::None).await?;
        self.operator.shadow().await?;
        self.stage("shadowing", load, Faults::None).await?;
        self.operator.read(50).await?;
        self.stage("reading 50 %", load, Faults::None).await?;
        self.mended(past).await
    }

    /// More and more payments are born at the service. The last step is not taken where events were stolen.
    async fn ramp(&mut self, load: &Load) -> Result<()> {
        self.operator.ramp(0).await?;
        self.stage("ramping 0 %", load, Faults::None).await?;
        self.operator.ramp(25).await?;
        self.stage("ramping 25 %", load, Faults::Kills).await?;
        if self.args.broken == Some(Break::Relay) {
            return Ok(());
        }
        self.operator.ramp(100).await?;
        self.stage("ramping 100 %", load, Faults::None).await
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
        self.end(name, load, done).await
    }

    /// Notes what happened since the stage before ended.
    pub(crate) async fn end(&mut self, name: &str, load: &Load, faults: Vec<String>) -> Result<()> {
        let births = store::births(&self.shop.source).await?;
        let homes = store::homes(&self.shop.source).await?;
        let now = Mark { at: Instant::now(), accepted: load.book().accepted(), births };
        let before = std::mem::replace(&mut self.mark, now);
        let stage = Stage {
            name: name.to_owned(),
            seconds: ((now.at - before.at).as_secs_f64() * 10.0).round() / 10.0,
            accepted: now.accepted - before.accepted,
            born_at_source: births.at_source - before.births.at_source,
            born_at_target: births.at_target - before.births.at_target,
            at_target: homes.owned_by_target(),
            faults,
        };
        let (accepted, born) = (stage.accepted, stage.born_at_target);
        self.progress
            .say(&format!("stage {name}: {accepted} orders accepted, {born} payments born at the target"));
        self.walked.stages.push(stage);
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
            Ok((store::queue(&self.shop.source).await? > LOOT * 4).then_some(()))
        })
        .await?;
        for key in store::steal(&self.shop.source, LOOT).await? {
            self.progress.say(&format!("broken on purpose: {key} was deleted from the relay's queue"));
        }
        Ok(())
    }
}
