//! What a relay leaves to the writers, beside the peers.

use anyhow::Result;

use crate::{
    limits::per_second,
    outbox::{contender::Contender, drive::Tail, run::Run, workload::ACCOUNTS, writers},
    report::Figure,
};

/// Seconds of writing before the relay counts as warm; a JVM takes longest.
const WARM_UP: u64 = 10;

/// Each contender in turn: its writers alone, then with its relay running; and how many records it appended meanwhile.
pub(crate) async fn run(run: &mut Run) -> Result<()> {
    let (clients, seconds) = (run.options.clients, run.options.seconds);
    let mut all = Contender::ALL.map(|contender| {
        let figure =
            |what: &str, unit| Figure::new("peer writers", format!("{}, {what}", contender.name()), unit);
        let alone = figure("writers without a relay", "commits/s");
        let beside = figure("writers beside the relay", "commits/s");
        (contender, [alone, beside, figure("appended meanwhile", "records/s")])
    });
    for round in run.rounds() {
        for (contender, [alone, beside, delivered]) in &mut all {
            let scene = run.scene(*contender, "peers").await?;
            run.settle().await?;
            let without = writers::closed_loop(&scene, clients, seconds, ACCOUNTS).await?;
            scene.drop(&run.ground).await?;
            // Another database: what the first left behind would be delivered too.
            let scene = run.scene(*contender, "peers").await?;
            let relay = scene.start(&run.ground).await?;
            let tail = Tail::new(&run.ground, scene.topic())?;
            writers::closed_loop(&scene, clients, WARM_UP, ACCOUNTS).await?;
            let before = tail.records().await?;
            let with = writers::closed_loop(&scene, clients, seconds, ACCOUNTS).await?;
            let records = tail.records().await? - before;
            relay.stop().await?;
            scene.drop(&run.ground).await?;
            if round > 0 {
                alone.values.push(without);
                beside.values.push(with);
                delivered.values.push(per_second(records, crate::limits::per_second(seconds, 1.0)));
            }
        }
        eprintln!("beside peers, writers: round {round} of {}", run.options.rounds);
    }
    run.figures(all.into_iter().flat_map(|(_, figures)| figures));
    Ok(())
}
