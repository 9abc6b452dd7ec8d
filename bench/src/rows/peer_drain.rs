//! The drain beside the peers.

use anyhow::Result;

use super::{KEYS, backlog};
use crate::{
    contender::Contender,
    drive::{self, Drained, Look, Tail},
    ground::Scene,
    limits::per_second,
    profile,
    report::Figure,
    run::Run,
    workload,
};

/// Events that go through before a backlog is filled: connections and plans are warm, and Debezium knows its position.
pub(crate) const WARM_UP: u64 = 500;

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
    run.figures(figures.into_iter().flat_map(|(_, _, figures)| figures));
    Ok(())
}

async fn once(run: &mut Run, contender: Contender, keys: i64) -> Result<Drained> {
    let scene = run.scene(contender, "peers").await?;
    warm_up(run, &scene, keys).await?;
    let after = scene.committed().await?;
    workload::fill(&scene, WARM_UP, backlog(run.options.peer_backlog, keys), keys).await?;
    run.settle().await?;
    let drained = drive::drain(&run.ground, &scene, after, Look::Away).await?;
    scene.drop(&run.ground).await?;
    Ok(drained)
}

/// Lets a few events through, and stops the relay again.
pub(crate) async fn warm_up(run: &Run, scene: &Scene, keys: i64) -> Result<()> {
    let mut relay = scene.start(&run.ground).await?;
    workload::fill(scene, 0, WARM_UP, keys).await?;
    let tail = Tail::new(&run.ground, scene.topic())?;
    drive::reach(&tail, &mut relay, WARM_UP).await?;
    drive::finish(scene, &tail, &mut relay, drive::DRAIN_TIMEOUT).await?;
    relay.stop().await
}
