//! The drain beside the peers.

use anyhow::Result;

use super::{KEYS, backlog};
use crate::{
    ground::Scene,
    limits::per_second,
    outbox::{
        contender::Contender,
        drive::{self, Drained, Look, Tail},
        profile,
        run::Run,
        workload,
    },
    process::Process,
    report::{Figure, Wanted},
};

/// Each contender in turn, with many keys and few.
pub(crate) async fn run(run: &mut Run) -> Result<()> {
    let mut figures = Vec::new();
    for keys in KEYS {
        for contender in Contender::ALL {
            let name = format!("{}, {keys} keys", contender.name());
            let rate = Figure::new("peer drain", name.clone(), "events/s");
            let cpu = Figure::new("peer cpu", name.clone(), "s per million events");
            figures.push((keys, contender, [rate, cpu, Figure::new("peer memory", name, "MB")]));
        }
    }
    for round in run.rounds() {
        for (keys, contender, [rate, cpu, memory]) in &mut figures {
            let drained = once(run, *contender, *keys).await?;
            let scene = format!("backlog beside peers, {keys} keys");
            if round > 0 {
                rate.values.push(drained.rate);
                cpu.values.push(drained.used.relay / per_second(drained.events, 1e6));
                memory.values.push(drained.peak_mb);
                if round == run.options.rounds {
                    let who = format!("{}, {keys} keys", contender.name());
                    run.report.profile.extend(profile::shares(&who, &drained));
                }
            }
            run.delivered(&scene, *contender, drained.delivery);
        }
        eprintln!("beside peers, drain: round {round} of {}", run.options.rounds);
    }
    for keys in KEYS {
        let of = |ours: bool| {
            let these =
                figures.iter().filter(move |(k, who, _)| *k == keys && (*who == Contender::Banyan) == ours);
            these.map(|(_, _, [rate, _, _])| rate)
        };
        let best = Figure::most("peer drain", of(false));
        let name = format!("drain / the fastest peer's, {keys} keys");
        let claim = Figure::most("peer drain", of(true)).over(&best, name, Wanted::AtLeast(1.0));
        run.claim(claim);
    }
    run.figures(figures.into_iter().flat_map(|(_, _, figures)| figures));
    Ok(())
}

async fn once(run: &mut Run, contender: Contender, keys: i64) -> Result<Drained> {
    let scene = run.scene(contender, "peers").await?;
    let backlog = backlog(run.options.peer_backlog, keys);
    let relay = warm_up(run, &scene, backlog, keys).await?;
    relay.pause()?;
    let after = scene.committed().await?;
    workload::fill(&scene, warm(backlog), backlog, keys).await?;
    run.settle().await?;
    let drained = drive::drain(&run.ground, &scene, relay, after, Look::Away).await?;
    scene.drop(&run.ground).await?;
    Ok(drained)
}

/// Events that go through before a backlog is written: connections, plans and a JVM's compiler are warm, and Debezium has
/// noted its position.
pub(crate) fn warm(backlog: u64) -> u64 {
    backlog / 5
}

/// Starts the relay and lets these events through.
pub(crate) async fn warm_up(run: &Run, scene: &Scene, backlog: u64, keys: i64) -> Result<Process> {
    let mut relay = scene.start(&run.ground).await?;
    workload::fill(scene, 0, warm(backlog), keys).await?;
    let tail = Tail::new(&run.ground, scene.topic())?;
    drive::reach(&tail, &mut relay, warm(backlog)).await?;
    drive::finish(scene, &tail, &mut relay, drive::DRAIN_TIMEOUT).await?;
    Ok(relay)
}
