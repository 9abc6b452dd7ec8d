//! Latency beside the peers.

use std::collections::HashMap;

use anyhow::Result;

use super::latency::{note, open_loop};
use crate::{
    outbox::{contender::Contender, drive, run::Run},
    report::{Figure, Wanted},
};

/// Each contender in turn, at the same rate.
pub(crate) async fn run(run: &mut Run) -> Result<()> {
    let rate = run.options.peer_rate;
    let mut all = Contender::ALL.map(|contender| {
        let name = |p: &str| format!("{}, {p}, commit to consumer at {rate:.0} commits/s", contender.name());
        (contender, ["p50", "p99", "p99.9"].map(|p| Figure::new("peer latency", name(p), "ms")))
    });
    for round in run.rounds() {
        for (contender, figures) in &mut all {
            let scene = run.scene(*contender, "peers").await?;
            run.settle().await?;
            let found = open_loop(&run.ground, &scene, rate, run.options.seconds).await?;
            let seen = drive::verified(&run.ground, &scene, HashMap::new()).await?;
            run.delivered("open loop beside peers", *contender, seen.delivery);
            scene.drop(&run.ground).await?;
            if round > 0 {
                note(figures, &found.commit);
            }
        }
        eprintln!("beside peers, latency: round {round} of {}", run.options.rounds);
    }
    let [(_, ours), peers @ ..] = &all;
    let best = Figure::least("peer latency", peers.iter().map(|(_, figures)| &figures[1]));
    run.claim(ours[1].over(&best, "p99 / the best peer's p99", Wanted::AtMost(1.0)));
    run.figures(all.into_iter().flat_map(|(_, figures)| figures));
    Ok(())
}
