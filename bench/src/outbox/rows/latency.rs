//! How long an event takes from its commit to a consumer.

use std::{collections::HashMap, time::Duration};

use anyhow::{Result, bail};
use hdrhistogram::Histogram;

use crate::{
    cpu,
    ground::{Ground, Scene},
    limits::{self, Direct},
    outbox::{
        contender::Contender,
        drive,
        listener::Listener,
        run::Run,
        workload::ACCOUNTS,
        writers::{self, Commit},
    },
    report::{Figure, Wanted},
};

/// Milliseconds that the 99th percentile may take.
const P99_MAX: f64 = 15.0;

/// Commits a second when neither the options nor the publish row tell.
const RATE: f64 = 1_000.0;

/// What happens in the first seconds of a round does not count: connections, plans, leases, a JVM's compiler.
const WARM_UP: Duration = Duration::from_secs(10);

/// How long the last events may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Latencies of one round, in microseconds.
pub(crate) struct Latencies {
    /// From the commit's acknowledgement.
    pub(crate) commit: Histogram<u64>,
    /// From when the booking was due, its own transaction included: nothing hides behind a late writer.
    pub(crate) due: Histogram<u64>,
    /// Share of the processors that nobody used, from the first booking to the last.
    pub(crate) idle: f64,
}

/// Alternates with a plain round trip through Kafka.
pub(crate) async fn run(run: &mut Run) -> Result<()> {
    let rate = rate(run);
    let unit = "ms";
    let name = |what: &str, p: &str| Figure::new("latency", format!("{what}, {p}"), unit);
    let what = format!("commit to consumer at {rate:.0} commits/s");
    let mut commit = ["p50", "p99", "p99.9"].map(|p| name(&what, p));
    let mut due = ["p50", "p99", "p99.9"].map(|p| name("the same from when the booking was due", p));
    let mut trip = ["p50", "p99", "p99.9"].map(|p| name("limit: a round trip through Kafka", p));
    let what = "limit: the same bookings, each sent by its own process after its commit, and no relay";
    let mut direct = ["p50", "p99", "p99.9"].map(|p| name(what, p));
    let mut idle = Figure::new("latency", "processors idle during the bookings", "%");
    for round in run.rounds() {
        run.settle().await?;
        let limit = limits::round_trip(&run.ground, run.options.seconds).await?;
        let limit_direct = directly(run, rate).await?;
        let scene = run.scene(Contender::Banyan, "latency").await?;
        run.settle().await?;
        let found = open_loop(&run.ground, &scene, rate, run.options.seconds).await?;
        let seen = drive::verified(&run.ground, &scene, HashMap::new()).await?;
        run.delivered("open loop", Contender::Banyan, seen.delivery);
        scene.drop(&run.ground).await?;
        if round > 0 {
            note(&mut commit, &found.commit);
            note(&mut due, &found.due);
            note(&mut trip, &limit);
            note(&mut direct, &limit_direct.commit);
            idle.values.push(found.idle * 100.0);
        }
        eprintln!("latency: round {round} of {}", run.options.rounds);
    }
    run.claim(commit[1].held(Wanted::AtMost(P99_MAX)));
    run.figures(commit.into_iter().chain(due).chain(trip).chain(direct).chain([idle]));
    Ok(())
}

/// The same bookings, each sent by its own process right after its commit: what the machine and the broker leave to any relay.
async fn directly(run: &mut Run, rate: f64) -> Result<Latencies> {
    let scene = run.scene(Contender::Banyan, "direct").await?;
    run.settle().await?;
    let direct = Direct::new(run.ground.stack.kafka(), &scene)?;
    let found = listen(&run.ground, &scene, rate, run.options.seconds, Some(&direct)).await?;
    direct.stop().await?;
    scene.drop(&run.ground).await?;
    Ok(found)
}

/// Half of what the publish row reached.
fn rate(run: &Run) -> f64 {
    let publish = run.report.figures.iter().find(|figure| figure.row == "publish");
    run.options.rate.unwrap_or_else(|| publish.map_or(RATE, |figure| figure.median() / 2.0))
}

/// Books at a rate with the relay running.
pub(crate) async fn open_loop(ground: &Ground, scene: &Scene, rate: f64, seconds: u64) -> Result<Latencies> {
    let relay = scene.start(ground).await?;
    let found = listen(ground, scene, rate, seconds, None).await?;
    relay.stop().await?;
    Ok(found)
}

/// Books at a rate, and matches what a consumer saw with what was committed.
async fn listen(
    ground: &Ground,
    scene: &Scene,
    rate: f64,
    seconds: u64,
    direct: Option<&Direct>,
) -> Result<Latencies> {
    let mut listener = Listener::start(ground.stack.kafka(), &scene.topic())?;
    let (busy_before, idle_before) = cpu::cores()?;
    let commits = writers::open_loop(scene, rate, seconds + WARM_UP.as_secs(), ACCOUNTS, direct).await?;
    let (busy, idle) = cpu::cores()?;
    let (busy, idle) = (busy - busy_before, idle - idle_before);
    let mut waiting: HashMap<(String, i64), &Commit> =
        commits.iter().map(|commit| ((commit.account.to_string(), commit.version), commit)).collect();
    let idle = idle / (busy + idle);
    let mut latencies = Latencies { commit: Histogram::new(3)?, due: Histogram::new(3)?, idle };
    let counts_from = commits.iter().map(|commit| commit.due).min().map(|first| first + WARM_UP);
    while !waiting.is_empty() {
        let Some(arrival) = listener.next(PATIENCE).await else {
            bail!("{} of {} events did not arrive", waiting.len(), commits.len());
        };
        let Some(commit) = waiting.remove(&(arrival.key, arrival.version)) else { continue };
        if Some(commit.due) >= counts_from {
            let micros = |since| u64::try_from(arrival.at.saturating_duration_since(since).as_micros());
            latencies.commit.record(micros(commit.committed)?)?;
            latencies.due.record(micros(commit.due)?)?;
        }
    }
    listener.stop().await?;
    Ok(latencies)
}

/// Adds a round's percentiles.
pub(crate) fn note(figures: &mut [Figure; 3], histogram: &Histogram<u64>) {
    for (figure, quantile) in figures.iter_mut().zip([0.5, 0.99, 0.999]) {
        figure.values.push(limits::per_second(histogram.value_at_quantile(quantile), 1e3));
    }
}
