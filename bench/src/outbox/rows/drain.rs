//! How fast a backlog is delivered, and what that costs.

use std::collections::HashMap;

use anyhow::{Context, Result};

use super::{KEYS, backlog};
use crate::{
    ground::{Ground, Scene},
    limits,
    outbox::{
        contender::Contender,
        drive::{self, Drained, Look},
        profile,
        run::Run,
        workload,
    },
    report::{Figure, Wanted},
};

/// Most memory that a relay may take, in MB.
const MEMORY_MAX: f64 = 40.0;

/// A backlog with so many keys, and what was measured of it.
struct Case {
    keys: i64,
    scene: Scene,
    rate: Figure,
    memory: Figure,
    cpu: Figure,
}

/// Alternates the cases and their limits.
pub(crate) async fn run(run: &mut Run) -> Result<()> {
    let mut cases = Vec::new();
    for keys in KEYS {
        cases.push(case(run, keys).await?);
    }
    let mut read = Figure::new("drain", "limit: plain keyset read-and-delete", "events/s");
    let mut produce = Figure::new("drain", "limit: produce alone", "events/s");
    let mut halves = Figure::new("drain", "limit: the two halves, one after the other", "events/s");
    for round in run.rounds() {
        let events = run.options.backlog;
        let first = cases.first().context("a case")?;
        restore(&first.scene).await?;
        run.settle().await?;
        let reading = limits::read_and_delete(&first.scene, events).await?;
        run.settle().await?;
        let producing = limits::produce(&run.ground, events, first.keys).await?;
        if round > 0 {
            read.values.push(reading);
            produce.values.push(producing);
            halves.values.push(1.0 / (1.0 / reading + 1.0 / producing));
        }
        for case in &mut cases {
            measure(run, case, round).await?;
        }
        eprintln!("drain: round {round} of {}", run.options.rounds);
    }
    if run.options.profile {
        for case in &mut cases {
            look(run, case).await?;
        }
    }
    conclude(run, &cases, &halves);
    run.figures([read, produce, halves]);
    for case in cases {
        run.figures([case.rate, case.memory, case.cpu]);
        case.scene.drop(&run.ground).await?;
    }
    Ok(())
}

async fn case(run: &Run, keys: i64) -> Result<Case> {
    let scene = run.scene(Contender::Banyan, "drain").await?;
    workload::fill(&scene, 0, backlog(run.options.backlog, keys), keys).await?;
    // Kept aside, so that each round drains the same backlog. The events stay in the log.
    sqlx::query("create table bench.backlog as table outbox.pending").execute(&scene.pool).await?;
    Ok(Case {
        keys,
        scene,
        rate: Figure::new("drain", format!("drain, {keys} keys"), "events/s"),
        memory: Figure::new("relay", format!("VmHWM of the relay's process, {keys} keys"), "MB"),
        cpu: Figure::new("relay", format!("CPU of the relay's process, {keys} keys"), "s per million events"),
    })
}

/// Puts the backlog back, as it was.
async fn restore(scene: &Scene) -> Result<()> {
    sqlx::query("truncate outbox.pending").execute(&scene.pool).await?;
    sqlx::query("insert into outbox.pending table bench.backlog").execute(&scene.pool).await?;
    workload::rest(&scene.pool).await
}

async fn measure(run: &mut Run, case: &mut Case, round: u32) -> Result<()> {
    restore(&case.scene).await?;
    renew_topic(&run.ground, &mut case.scene).await?;
    run.settle().await?;
    let relay = case.scene.start(&run.ground).await?;
    let drained = drive::drain(&run.ground, &case.scene, relay, HashMap::new(), Look::Away).await?;
    if round > 0 {
        case.rate.values.push(drained.rate);
        case.memory.values.push(drained.peak_mb);
        case.cpu.values.push(per_million(&drained));
        if round == run.options.rounds {
            run.report.profile.extend(profile::shares(&format!("drain, {} keys", case.keys), &drained));
        }
    }
    run.delivered(&format!("drain, {} keys", case.keys), Contender::Banyan, drained.delivery);
    Ok(())
}

/// Once more, with a close look, which disturbs it: its rate does not count.
async fn look(run: &mut Run, case: &mut Case) -> Result<()> {
    restore(&case.scene).await?;
    renew_topic(&run.ground, &mut case.scene).await?;
    let scene = format!("drain, {} keys", case.keys);
    let relay = case.scene.start(&run.ground).await?;
    let drained =
        drive::drain(&run.ground, &case.scene, relay, HashMap::new(), Look::Closely(&scene)).await?;
    run.report.profile.extend(drained.shares);
    Ok(())
}

async fn renew_topic(ground: &Ground, scene: &mut Scene) -> Result<()> {
    let fresh = ground.topic("drain").await?;
    ground.forget(&std::mem::replace(&mut scene.prefix, fresh)).await
}

fn per_million(drained: &Drained) -> f64 {
    drained.used.relay / limits::per_second(drained.events, 1e6)
}

fn conclude(run: &mut Run, cases: &[Case], halves: &Figure) {
    for (case, wanted) in cases.iter().zip([0.8, 0.5]) {
        let name = format!("drain / its two halves one after the other, {} keys", case.keys);
        run.claim(case.rate.over(halves, name, Wanted::AtLeast(wanted)));
    }
    for case in cases.iter().take(2) {
        run.claim(case.memory.held(Wanted::AtMost(MEMORY_MAX)));
    }
}
