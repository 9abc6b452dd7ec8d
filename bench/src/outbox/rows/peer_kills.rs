//! Kills in the middle of a backlog, beside the peers.

use std::{collections::HashMap, time::Instant};

use anyhow::Result;

use super::{KEYS, peer_drain};
use crate::{
    ground::Scene,
    outbox::{
        contender::Contender,
        drive::{self, Tail},
        run::Run,
        workload,
    },
    report::{Delivery, Figure},
};

/// Kills in one backlog, each after another fifth of its records, repeats included.
const KILLS: u64 = 4;

/// Each contender in turn, with many keys and few; what it lost, repeated or reordered is on the page beside the rest.
pub(crate) async fn run(run: &mut Run) -> Result<()> {
    let mut figures = Vec::new();
    for keys in KEYS.into_iter().take(2) {
        for contender in Contender::ALL {
            let name = format!("{}, {keys} keys, until all was delivered", contender.name());
            figures.push((keys, contender, Figure::new("peer kills", name, "s")));
        }
    }
    for round in 1..=run.options.kill_rounds {
        for (keys, contender, figure) in &mut figures {
            let scene = run.scene(*contender, "peers").await?;
            let backlog = run.options.peer_backlog;
            peer_drain::warm_up(run, &scene, backlog, *keys).await?.stop().await?;
            workload::fill(&scene, peer_drain::warm(backlog), backlog, *keys).await?;
            run.settle().await?;
            let (seconds, counted) = once(run, &scene).await?;
            figure.values.push(seconds);
            let name = format!("backlog with {KILLS} times kill -9, {keys} keys");
            run.delivered(&name, *contender, counted);
            scene.drop(&run.ground).await?;
        }
        eprintln!("beside peers, kills: round {round} of {}", run.options.kill_rounds);
    }
    run.figures(figures.into_iter().map(|(_, _, figure)| figure));
    Ok(())
}

async fn once(run: &Run, scene: &Scene) -> Result<(f64, Delivery)> {
    let tail = Tail::new(&run.ground, scene.topic())?;
    let backlog = run.options.peer_backlog;
    let mut relay = scene.start(&run.ground).await?;
    let began = Instant::now();
    for _ in 0..KILLS {
        // Whoever repeats records after a kill has no less time until the next.
        let next = tail.records().await? + backlog / (KILLS + 1);
        drive::reach(&tail, &mut relay, next).await?;
        relay.kill().await?;
        relay = scene.start(&run.ground).await?;
    }
    let last = drive::finish(scene, &tail, &mut relay, drive::DRAIN_TIMEOUT).await?;
    let seconds = last.saturating_duration_since(began).as_secs_f64();
    relay.stop().await?;
    let mut counted = drive::verified(&run.ground, scene, HashMap::new()).await?.delivery;
    counted.kills = KILLS;
    Ok((seconds, counted))
}
