//! From each stage before `sealed`: back at a random moment under load, and forward again.

use std::time::Instant;

use anyhow::{Result, bail, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use strangler::Stage;
use tests::checker::Accepted;
use tests::load::{Load, Plan};
use tests::{Binaries, Operator, Shop, seed, story, until};

use super::{SETTLED, SOON, clients, more, say, until_back};
use crate::handover::{count, until_all_at};

/// A rollback comes after at most so many orders in the stage: while its keys move, or when they rest.
const MOMENT_MAX: usize = 40;

/// Where a rollback of a stage ends.
fn ends(stage: Stage) -> Stage {
    if stage == Stage::Following { Stage::Local } else { Stage::Following }
}

async fn enter(operator: &Operator, stage: Stage) -> Result<()> {
    match stage {
        Stage::Following => operator.follow().await,
        Stage::Shadowing => operator.shadow().await,
        Stage::Reading => operator.read(50).await,
        Stage::Ramping => operator.ramp(100).await,
        Stage::Primary => operator.primary().await,
        Stage::Local | Stage::Sealed | Stage::Removed => bail!("no rollback is told of {stage}"),
    }
}

/// Enters each stage up to this one.
async fn forward(operator: &Operator, to: Stage) -> Result<()> {
    let now: Stage = operator.status().await?["stage"].as_str().unwrap_or_default().parse()?;
    for next in Stage::ALL.into_iter().filter(|next| *next > now && *next <= to) {
        enter(operator, next).await?;
    }
    Ok(())
}

/// There, back and there again under load; returns what clients saw accepted.
async fn there_and_back(shop: &Shop<'_>, stage: Stage, moment: usize) -> Result<(Vec<Accepted>, f64)> {
    let operator = shop.operator()?;
    let load = Load::start(Plan { rate: 5, ..Plan::default() }, clients(shop)?).await?;
    more(&load, 20).await?;
    forward(&operator, stage).await?;
    more(&load, moment).await?;
    if stage >= Stage::Ramping {
        until("a payment to be at the service", SOON, async || {
            Ok((count(&operator.status().await?, "target") > 0).then_some(()))
        })
        .await?;
    }
    let began = Instant::now();
    operator.rollback().await?;
    until_back(&operator, ends(stage)).await?;
    let seconds = began.elapsed().as_secs_f64();
    more(&load, 10).await?;
    forward(&operator, stage).await?;
    more(&load, 10).await?;
    let tally = load.stop().await?;
    ensure!(tally.failures.is_empty(), "{stage}: {tally}");
    Ok((tally.accepted, seconds))
}

async fn each_of(stages: &[Stage]) {
    story(async |world, stack| {
        let seed = seed()?;
        let mut random = StdRng::seed_from_u64(seed);
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        let webhooks = shop.webhook_url();
        shop.start_all(&["acme", "globex"], &[("PROVIDER_WEBHOOK_URL", &webhooks)]).await?;
        let mut accepted = Vec::new();
        for stage in stages {
            let moment = random.random_range(0..=MOMENT_MAX);
            let name = stage.name();
            say(format!("{name:<10} with BANYAN_SEED={seed}: rolled back after {moment} orders"))?;
            let (seen, seconds) = Box::pin(there_and_back(&shop, *stage, moment)).await?;
            accepted.extend(seen);
            shop.settle(SETTLED).await?;
            if *stage == Stage::Primary {
                // What was under way is handed over now, which are records that the checker wants to see.
                until_all_at(&shop.operator()?, "target").await?;
                shop.settle(SETTLED).await?;
            }
            let findings = shop.check(accepted.clone()).await?;
            let (all, lost) = (findings.accepted, findings.lost.count());
            say(format!("{name:<10} back in {seconds:5.1} s; of {all} orders so far {lost} are lost"))?;
            ensure!(findings.holds(), "{stage}: {findings}");
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stage_that_moves_no_key_is_rolled_back_at_a_random_moment_and_entered_again() {
    each_of(&[Stage::Following, Stage::Shadowing, Stage::Reading]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stage_with_keys_at_the_target_is_rolled_back_at_a_random_moment_and_entered_again() {
    each_of(&[Stage::Ramping, Stage::Primary]).await;
}
