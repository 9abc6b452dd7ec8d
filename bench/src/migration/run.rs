//! One run: rounds of filling while the monolith owns all payments, then rounds of moving them.

use std::time::{Duration, Instant};

use ::tests::World;
use anyhow::{Context as _, Result, ensure};

use super::{
    Options, database, feeds,
    field::Field,
    filling::{self, Filled},
    moves::{self, Moved, Paused, Way},
    overhead::{self, Overhead, over_allowed},
};
use crate::{
    ground::Ground,
    limits, machine,
    payments::quantile,
    report::{Bench, Claim, Report, SCHEMA, Wanted, median},
};

/// Payments a second that are wanted.
const RATE_WANTED: f64 = 1_000.0;

/// Milliseconds that a payment's pause may take, at p99.
const PAUSE_WANTED: f64 = 250.0;

/// How much longer the p99 of those who order may be while the service is filled ..
const SLOWER_WANTED: f64 = 1.1;

/// Seconds of bare commits beside a round of moves.
const LIMIT_SECONDS: u64 = 2;

/// Rows of the report.
const OVERHEAD: &str = "seam and lock";
const FILLING: &str = "filling";
const FEEDS: &str = "feeds";

/// Names of figures that others are made of.
const MOVED: &str = "payments handed over";
const SWAPS: &str = "limit: the owners' rows swapped alone";
const PAUSE: &str = "from the fence to the write at the new home, p99";
const FILL: &str = "payments filled";
const SLOWER: &str = "p99 of acceptance while the service is filled, over the same with orders alone";
const AGAINST_ITSELF: &str = "the spread of that p99 with orders alone: the longer over the shorter";
const READ: &str = "the seam on a read: its time over what is allowed";
const WRITE: &str = "the owner's lock on a write: its time over what is allowed";

/// Runs all rounds, and has the checker look at the shop at the end.
pub(crate) async fn run(options: Options) -> Result<()> {
    let options = options.settled();
    let ground = Ground::new(options.stack).await?;
    let circumstances = machine::circumstances(&ground, options.facts()).await?;
    let report = Report { schema: SCHEMA, bench: Bench::Migration, circumstances, ..Report::default() };
    let logs = ground.folder.path().join("migration");
    std::fs::create_dir(&logs)?;
    let world = World::new(&ground.stack, "bench-migration", &logs)?;
    let mut run = Run { ground: &ground, options: &options, report };
    let measured = Box::pin(run.rounds(&world)).await;
    let Run { report, .. } = run;
    if let Err(error) = &measured {
        eprintln!("{error:#}\n{}", world.tails().await);
        world.close().await?;
    } else {
        world.end().await.context("take the shop down in order")?;
    }
    measured?;
    print!("{}", report.summary());
    Ok(ground.stack.close().await?)
}

struct Run<'a> {
    ground: &'a Ground,
    options: &'a Options,
    report: Report,
}

impl Run<'_> {
    async fn rounds(&mut self, world: &World) -> Result<()> {
        let began = Instant::now();
        let field = Box::pin(Field::open(world, &self.ground.stack, self.options)).await?;
        // A short run warms nothing up. A service that has owned a payment can't be emptied: filling comes first.
        let rounds = u32::from(self.options.short)..=self.options.rounds;
        for round in rounds.clone() {
            self.settle().await?;
            Box::pin(self.fill(&field, round)).await.context("filling")?;
            eprintln!("filling: round {round} of {}", self.options.rounds);
            self.keep(began)?;
        }
        for round in rounds {
            self.settle().await?;
            Box::pin(self.hand_over(&field, round)).await.context("handing over")?;
            eprintln!("handing over: round {round} of {}", self.options.rounds);
            self.keep(began)?;
        }
        field.settle().await?;
        let findings = field.shop.check(Vec::new()).await?;
        ensure!(findings.holds(), "what was measured is not right:\n{findings}");
        Ok(())
    }

    async fn settle(&mut self) -> Result<()> {
        let idle = Duration::from_secs(self.options.idle_seconds);
        machine::settle(&mut self.report.circumstances.starts, idle).await
    }

    fn keep(&mut self, began: Instant) -> Result<()> {
        self.report.circumstances.seconds = began.elapsed().as_secs();
        self.report.claims = claims(&self.report);
        self.report.save(self.options.json.as_deref())
    }

    /// What the seam and the lock cost, then the service's copies.
    async fn fill(&mut self, field: &Field<'_>, round: u32) -> Result<()> {
        let turn = usize::try_from(round)?;
        let some = field.some(self.options.pairs, turn);
        let overhead = Box::pin(overhead::round(field, &some, &format!("route-{round}"))).await?;
        field.settle().await?;
        let filled = Box::pin(filling::round(field, self.options)).await?;
        if round > 0 {
            note_overhead(&mut self.report, overhead);
            note_filled(&mut self.report, filled);
        }
        Ok(())
    }

    /// There and back undisturbed, and there and back with callers. The service's feed is measured while all payments are its own.
    async fn hand_over(&mut self, field: &Field<'_>, round: u32) -> Result<()> {
        let mut undisturbed = Vec::new();
        let mut lag = None;
        for way in Way::ALL {
            undisturbed.push((way, Box::pin(moves::undisturbed(field, way)).await?));
            if way == Way::There {
                lag = Some(self.reverse(field).await?);
            }
        }
        let some = field.some(self.options.pauses, usize::try_from(round)?);
        let mut written_to = Vec::new();
        for way in Way::ALL {
            let name = format!("pause-{round}");
            written_to.push((way, Box::pin(moves::written_to(field, way, &some, &name)).await?));
        }
        let swaps = database::swaps(&field.shop.source).await?;
        let bare = limits::commits(&self.ground.stack, 1, LIMIT_SECONDS).await?;
        if round == 0 {
            return Ok(());
        }
        for (way, moved) in undisturbed {
            let rate = moved.rate;
            note_moved(&mut self.report, way, moved);
            self.report.note(way.name(), SWAPS, "payments/s", swaps);
            self.report.note(way.name(), "payments handed over, over that limit", "x", rate / swaps);
            self.report.note(way.name(), "limit: bare commits of one connection", "commits/s", bare);
        }
        for (way, paused) in written_to {
            note_paused(&mut self.report, way, paused);
        }
        if let Some(lag) = lag {
            note_lag(&mut self.report, "from the service, with orders alone", lag);
        }
        Ok(())
    }

    /// The lag of the feed from the service, under orders whose payments are born there.
    async fn reverse(&self, field: &Field<'_>) -> Result<feeds::Lag> {
        let window = Duration::from_secs(self.options.seconds);
        let heard = super::customers::order(field, self.options.rate, async {
            tokio::time::sleep(window).await;
            Ok(())
        });
        let heard = Box::pin(heard).await?;
        field.settle().await?;
        feeds::lag(&field.shop.target, &field.shop.source, heard.window).await
    }
}

fn note_overhead(report: &mut Report, mut found: Overhead) {
    let (read, write) = (quantile(&mut found.read, 0.5), quantile(&mut found.write, 0.5));
    let (cold, warm, lock) = (found.cold.cost(), found.warm.cost(), found.lock.cost());
    let figures = [
        ("a read without the seam, p50", quantile(&mut found.cold.without, 0.5)),
        ("the seam on a read whose owner is asked for, p50 with it less p50 without", cold),
        ("the seam on a read whose owner is known, p50 with it less p50 without", warm),
        ("a write's locks without the owner's, p50", quantile(&mut found.lock.without, 0.5)),
        ("the owner's lock on a write, p50 with it less p50 without", lock),
        ("GET /v1/payments/{id} through HTTP, p50", read),
        ("POST /v1/payments/{id}/refunds through HTTP, p50", write),
    ];
    for (name, us) in figures {
        report.note(OVERHEAD, name, "us", us);
    }
    report.note(OVERHEAD, READ, "x", over_allowed(cold, read));
    report.note(OVERHEAD, WRITE, "x", over_allowed(lock, write));
}

fn note_filled(report: &mut Report, mut found: Filled) {
    report.note(FILLING, FILL, "payments/s", found.rate);
    report.note(FILLING, "payments in a round", "", found.keys);
    let mut p99 = [0.0; 3];
    let windows = [
        ("acceptance with orders alone, before", &mut found.before),
        ("acceptance while the service is filled", &mut found.meanwhile),
        ("acceptance with orders alone, afterwards", &mut found.after),
    ];
    for (p99, (name, times)) in p99.iter_mut().zip(windows) {
        report.note(FILLING, &format!("{name}, p50"), "ms", quantile(times, 0.5));
        *p99 = quantile(times, 0.99);
        report.note(FILLING, &format!("{name}, p99"), "ms", *p99);
    }
    let [before, meanwhile, after] = p99;
    report.note(FILLING, SLOWER, "x", meanwhile / f64::midpoint(before, after));
    report.note(FILLING, AGAINST_ITSELF, "x", before.max(after) / before.min(after));
    note_lag(report, "to the service, with orders alone", found.lag);
    note_lag(report, "to the service, while it is filled", found.lag_meanwhile);
}

fn note_lag(report: &mut Report, which: &str, mut found: feeds::Lag) {
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        report.note(FEEDS, &format!("{which}, {name}"), "ms", quantile(&mut found.ms, share));
    }
    let skipped = super::float(found.skipped);
    report.note(FEEDS, &format!("{which}: events that a snapshot stood for"), "", skipped);
}

fn note_moved(report: &mut Report, way: Way, mut found: Moved) {
    let row = way.name();
    report.note(row, MOVED, "payments/s", found.rate);
    report.note(row, "payments of a move", "", found.keys);
    report.note(row, "until the last was handed over", "s", found.seconds);
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        let name = format!("from the fence until it is the next owner's, undisturbed, {name}");
        report.note(row, &name, "ms", quantile(&mut found.between, share));
    }
}

fn note_paused(report: &mut Report, way: Way, mut found: Paused) {
    let row = way.name();
    report.note(
        row,
        "from the fence to the write at the new home, p50",
        "ms",
        quantile(&mut found.fence, 0.5),
    );
    report.note(row, PAUSE, "ms", quantile(&mut found.fence, 0.99));
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        let called = format!("from the owner's row on its way to the write at the new home, {name}");
        report.note(row, &called, "ms", quantile(&mut found.call, share));
        let heard = format!("a refund of a payment that leaves, as its caller sees it, {name}");
        report.note(row, &heard, "ms", quantile(&mut found.heard, share));
    }
    report.note(row, "payments written to between their homes", "", super::float(found.fence.len()));
    let missed = "payments that were to be, and were looked at too late or written before they left";
    report.note(row, missed, "", super::float(found.missed));
    report.note(row, "calls that were told to try again", "", f64::from(found.repeats));
}

/// What was to be reached.
fn claims(report: &Report) -> Vec<Claim> {
    let mut claims = Vec::new();
    for way in Way::ALL {
        let held = |name: &str, wanted| report.figure(way.name(), name).map(|figure| figure.held(wanted));
        claims.extend(held(MOVED, Wanted::AtLeast(RATE_WANTED)));
        claims.extend(held(PAUSE, Wanted::AtMost(PAUSE_WANTED)));
    }
    let overhead = [READ, WRITE].map(|name| report.figure(OVERHEAD, name));
    claims.extend(overhead.into_iter().flatten().map(|figure| figure.held(Wanted::EachAtMost(1.0))));
    let (slower, itself) = (report.figure(FILLING, SLOWER), report.figure(FILLING, AGAINST_ITSELF));
    if let (Some(slower), Some(itself)) = (slower, itself) {
        claims.push(slower.held(Wanted::AtMost(slower_wanted(&itself.values))));
    }
    claims
}

/// .. or as much longer as that p99 differs from itself, whichever is more.
fn slower_wanted(against_itself: &[f64]) -> f64 {
    SLOWER_WANTED.max(median(against_itself))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_may_be_slower_by_a_tenth_or_by_as_much_as_they_differ_from_themselves() {
        assert!((slower_wanted(&[1.02, 1.01, 1.05]) - 1.1).abs() < 1e-9);
        assert!((slower_wanted(&[1.02, 1.3, 1.4]) - 1.3).abs() < 1e-9);
    }

    #[test]
    fn claims_are_of_the_figures_that_there_are() {
        let mut report = Report::default();
        assert!(claims(&report).is_empty(), "nothing was measured, so nothing is claimed");
        report.note(Way::Back.name(), MOVED, "payments/s", 1_200.0);
        report.note(OVERHEAD, WRITE, "x", 0.4);
        let all = claims(&report);
        let wanted: Vec<Wanted> = all.iter().map(|claim| claim.wanted).collect();
        assert_eq!(wanted, [Wanted::AtLeast(RATE_WANTED), Wanted::EachAtMost(1.0)]);
        assert_eq!((all[0].row.as_str(), all[0].values.as_slice()), ("back to the monolith", &[1_200.0][..]));
    }
}
