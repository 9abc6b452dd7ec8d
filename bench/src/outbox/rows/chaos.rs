//! What is lost or out of order when relays die all the time and a transaction stays open.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::time::{sleep, sleep_until};

use crate::{
    ground::{Ground, Scene},
    outbox::{
        contender::Contender,
        drive::{self, Tail},
        run::Run,
        workload::{self, ACCOUNTS, LATE_ACCOUNT},
        writers,
    },
    process::Process,
    report::{Claim, Wanted},
};

/// One of the two relays is killed this often.
const KILL_EVERY: Duration = Duration::from_secs(5);

/// How long the rest may take once the killing has ended; a dead relay's leases run out meanwhile.
const PATIENCE: Duration = Duration::from_secs(120);

/// Two relays, writers, a transaction that published first and commits last, and `kill -9` every 5 s.
pub(crate) async fn run(run: &mut Run) -> Result<()> {
    let (seconds, rate) = (run.options.chaos_seconds, run.options.chaos_rate);
    let scene = run.scene(Contender::Banyan, "chaos").await?;
    let mut open = scene.pool.begin().await?;
    let version = workload::update(&mut open, LATE_ACCOUNT).await?;
    let key = LATE_ACCOUNT.to_string();
    let insert = scene.contender.insert();
    sqlx::query(insert).bind(&key).bind(workload::payload(&key, version)).execute(&mut *open).await?;
    let until = Instant::now() + Duration::from_secs(seconds);
    let (commits, killed) = tokio::join!(
        writers::open_loop(&scene, rate, seconds, ACCOUNTS, None),
        kill_in_turn(&run.ground, &scene, until)
    );
    let (commits, (mut relays, kills)) = (commits?, killed?);
    open.commit().await?;
    let tail = Tail::new(&run.ground, scene.topic())?;
    drive::finish(&scene, &tail, &mut relays[0], PATIENCE).await?;
    for relay in relays {
        relay.stop().await?;
    }
    let mut counted = drive::verified(&run.ground, &scene, HashMap::new()).await?.delivery;
    counted.kills = kills;
    eprintln!("chaos: {} commits, {kills} kills", commits.len());
    let claim = |name: &str, count: u64| Claim {
        row: "chaos".into(),
        name: name.into(),
        unit: "events".into(),
        wanted: Wanted::Exactly(0.0),
        values: vec![crate::limits::per_second(count, 1.0)],
    };
    let claims = [
        claim("lost", counted.lost),
        claim("first deliveries out of order", counted.inverted),
        claim("records never committed", counted.unknown),
    ];
    claims.into_iter().for_each(|claim| run.claim(claim));
    let name = format!("two relays, kill -9 every 5 s, a transaction open for {seconds} s");
    run.delivered(&name, Contender::Banyan, counted);
    scene.drop(&run.ground).await
}

/// Kills one relay after the other, each replaced at once; answers those that run at the end.
async fn kill_in_turn(ground: &Ground, scene: &Scene, until: Instant) -> Result<([Process; 2], u64)> {
    let mut relays = [scene.start(ground).await?, scene.start(ground).await?];
    let mut kills = 0u64;
    loop {
        let next = Instant::now() + KILL_EVERY;
        if next >= until {
            sleep_until(until.into()).await;
            return Ok((relays, kills));
        }
        sleep(KILL_EVERY).await;
        let [first, second] = relays;
        first.kill().await?;
        kills += 1;
        relays = [second, scene.start(ground).await?];
    }
}
