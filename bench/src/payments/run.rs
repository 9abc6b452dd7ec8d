//! One run: rounds in process and through the service in turn, and bare commits beside each.

use std::time::{Duration, Instant};

use ::tests::World;
use anyhow::{Context, Result, ensure};
use sqlx::PgPool;

use super::{
    Options, database,
    round::{Counted, Field, Timed},
    shop::{Side, Way},
    stages,
};
use crate::{
    ground::Ground,
    limits, machine,
    report::{Bench, Claim, Report, SCHEMA, Wanted},
};

/// How long a shop may take to come to rest at the end.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Orders a second that are wanted on two cores.
const PAID_WANTED: f64 = 300.0;

/// Of the bare commit rate so much is wanted in commits of paid orders.
const SHARE_WANTED: f64 = 0.5;

/// Seconds of each try of a number of orders at once.
const TRY_SECONDS: u64 = 5;

/// Names of figures that others are made of.
const PAID: &str = "paid orders";
const STATEMENTS: &str = "statements of the shop";
const COMMITS: &str = "writing commits that wait for the disk";
const BARE: &str =
    "limit: bare commits of as many connections as orders were under way, but no more than the shop held";

/// Runs all rounds, and has the checker look at both shops at the end.
pub(crate) async fn run(options: Options) -> Result<()> {
    let options = options.settled();
    let ground = Ground::new(options.stack).await?;
    database::prepare(ground.stack.postgres_url()).await?;
    let admin = PgPool::connect(ground.stack.postgres_url()).await?;
    let circumstances = machine::circumstances(&ground, options.facts()).await?;
    let report = Report { schema: SCHEMA, bench: Bench::Payments, circumstances, ..Report::default() };
    let mut worlds = Vec::new();
    for way in Way::ALL {
        let logs = ground.folder.path().join(way.owner());
        std::fs::create_dir(&logs)?;
        worlds.push(World::new(&ground.stack, &format!("bench-{}", way.owner()), &logs)?);
    }
    let mut run = Run { ground: &ground, admin: &admin, options: &options, report };
    let measured = Box::pin(run.rounds(&worlds)).await;
    let Run { report, .. } = run;
    for world in worlds {
        if let Err(error) = &measured {
            eprintln!("{error:#}\n{}", world.tails().await);
            world.close().await?;
        } else {
            world.end().await.context("take a shop down in order")?;
        }
    }
    measured?;
    print!("{}", report.summary());
    admin.close().await;
    Ok(ground.stack.close().await?)
}

struct Run<'a> {
    ground: &'a Ground,
    admin: &'a PgPool,
    options: &'a Options,
    report: Report,
}

/// One way, and what its first round has found out.
struct Lane<'a> {
    side: Side<'a>,
    field: Field<'a>,
    at_once: u32,
    /// Orders a second of the open loop.
    rate: Option<f64>,
}

impl<'a> Run<'a> {
    async fn rounds(&mut self, worlds: &'a [World]) -> Result<()> {
        let began = Instant::now();
        let mut lanes = Vec::new();
        for (way, world) in Way::ALL.into_iter().zip(worlds) {
            eprintln!("{}: the shop is made", way.name());
            lanes.push(self.lane(way, world).await?);
        }
        // A short run warms nothing up.
        let first = u32::from(self.options.short);
        for round in first..=self.options.rounds {
            for lane in &mut lanes {
                self.round(lane, round).await.with_context(|| lane.side.way.name())?;
                eprintln!("{}: round {round} of {}", lane.side.way.name(), self.options.rounds);
            }
            self.report.circumstances.seconds = began.elapsed().as_secs();
            self.report.claims = Way::ALL.into_iter().flat_map(|way| claims(&self.report, way)).collect();
            self.report.save(self.options.json.as_deref())?;
        }
        for lane in &mut lanes {
            at_rest(&mut lane.side).await.with_context(|| lane.side.way.name())?;
        }
        Ok(())
    }

    async fn lane(&self, way: Way, world: &'a World) -> Result<Lane<'a>> {
        let side = Box::pin(Side::open(world, &self.ground.stack, way, self.options)).await?;
        let databases =
            vec![database::name(&side.shop.source).await?, database::name(&side.shop.target).await?];
        let field = Field { stack: &self.ground.stack, admin: self.admin, databases };
        let at_once = self.options.at_once.first().copied().context("how many orders at once?")?;
        Ok(Lane { side, field, at_once, rate: None })
    }

    /// Round 0 warms up, and finds out how many orders at once are best.
    async fn round(&mut self, lane: &mut Lane<'a>, round: u32) -> Result<()> {
        let idle = Duration::from_secs(self.options.idle_seconds);
        machine::settle(&mut self.report.circumstances.starts, idle).await?;
        lane.side.start().await?;
        if round == 0 && self.options.at_once.len() > 1 {
            lane.at_once = best(lane, &self.options.at_once).await?;
        }
        let counted = lane.field.closed(&lane.side, lane.at_once, self.options.seconds).await?;
        let at_rest = lane.field.at_rest().await?;
        let rate = *lane.rate.get_or_insert(counted.paid / counted.seconds / 2.0);
        let timed = lane.field.open(&lane.side, rate, self.options.seconds).await?;
        lane.side.stop().await?;
        let writers = writers(lane.at_once, counted.sessions);
        let bare = limits::commits(&self.ground.stack, writers, self.options.limit_seconds).await?;
        if round > 0 {
            self.count(lane, &counted, bare, at_rest);
            self.time(lane, timed, rate);
            self.report.statements.retain(|statement| statement.way != lane.side.way.name());
            self.report.statements.extend(counted.asked);
        }
        Ok(())
    }

    fn count(&mut self, lane: &Lane<'_>, counted: &Counted, bare: f64, at_rest: f64) {
        let way = lane.side.way.name();
        let report = &mut self.report;
        report.note(way, PAID, "orders/s", counted.paid / counted.seconds);
        report.note(way, BARE, "commits/s", bare);
        report.note(way, "connections of the shop", "", f64::from(counted.sessions));
        report.note(way, "orders under way at once", "", f64::from(lane.at_once));
        report.note(way, "rounds that were steady within 20 s", "of 1", f64::from(u8::from(counted.steady)));
        let database = format!("{way}: database");
        let each = [
            (STATEMENTS, counted.statements),
            ("of these those that only begin, end or set something", counted.control),
            ("transactions, those that only read too", counted.transactions),
            (COMMITS, counted.commits),
            ("relays' writes, which don't wait for the disk, at most", counted.unawaited),
        ];
        for (name, count) in each {
            report.note(&database, name, "per paid order", count / counted.paid);
        }
        report.note(&database, "statements while no order is under way", "/s", at_rest);
        for (who, seconds) in &counted.cpu {
            report.note(&format!("{way}: processor"), who, "ms per paid order", seconds * 1e3 / counted.paid);
        }
    }

    fn time(&mut self, lane: &Lane<'_>, timed: Timed, rate: f64) {
        let way = lane.side.way.name();
        let (latency, stages) = (format!("{way}: latency"), format!("{way}: stages"));
        for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
            let accepted = limits::per_second(timed.accepted.value_at_quantile(share), 1e3);
            let what = format!("due -> acceptance heard at {rate:.0} orders/s, {name}");
            self.report.note(&latency, &what, "ms", accepted);
        }
        for (n, (stage, mut times)) in timed.stages.into_iter().enumerate() {
            for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
                let (row, what) = if n == 0 {
                    (&latency, format!("{stage} at {rate:.0} orders/s, {name}"))
                } else {
                    (&stages, format!("{stage}, {name}"))
                };
                self.report.note(row, &what, "ms", stages::quantile(&mut times, share));
            }
        }
    }
}

/// Which number of orders at once brings the most paid orders a second.
async fn best(lane: &Lane<'_>, tried: &[u32]) -> Result<u32> {
    let mut best = (lane.at_once, 0.0);
    for at_once in tried {
        let counted = lane.field.closed(&lane.side, *at_once, TRY_SECONDS).await?;
        let rate = counted.paid / counted.seconds;
        eprintln!("{}: {at_once} at once, {rate:.0} paid orders/s", lane.side.way.name());
        if rate > best.1 {
            best = (*at_once, rate);
        }
    }
    Ok(best.0)
}

/// How many connections commit beside a round. Each order has one writer at a time, and each writer one connection of the shop.
fn writers(at_once: u32, sessions: u32) -> u32 {
    at_once.min(sessions)
}

/// What was to be reached.
fn claims(report: &Report, way: Way) -> Vec<Claim> {
    let row = way.name();
    let database = format!("{row}: database");
    let figures = (report.figure(row, PAID), report.figure(&database, COMMITS), report.figure(row, BARE));
    let (Some(paid), Some(commits), Some(bare)) = figures else { return Vec::new() };
    let mut committed = paid.clone();
    committed.values.iter_mut().zip(&commits.values).for_each(|(rate, commits)| *rate *= commits);
    let name = "paid orders/s x writing commits per paid order / bare commit rate";
    vec![committed.over(bare, name, Wanted::AtLeast(SHARE_WANTED)), paid.held(Wanted::AtLeast(PAID_WANTED))]
}

/// Runs a shop until nothing is under way, and has the checker compare all that anyone says of it.
async fn at_rest(side: &mut Side<'_>) -> Result<()> {
    side.start().await?;
    if side.way == Way::InProcess {
        // Its database must come to know what everyone was told, too.
        side.shop.start_service("payments-service", "all").await?;
    }
    side.shop.settle(SETTLE_TIMEOUT).await?;
    let findings = side.shop.check(Vec::new()).await?;
    ensure!(findings.holds(), "what was measured is not right:\n{findings}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_has_a_writer_for_each_order_but_no_more_than_the_shop_held() {
        assert_eq!(writers(16, 60), 16, "a connection that is idle writes nothing");
        assert_eq!(writers(200, 60), 60, "an order that waits for a connection writes nothing");
    }
}
