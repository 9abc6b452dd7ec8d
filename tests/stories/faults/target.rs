//! The service dies while payments are born there, while they are handed to it, and while they are called back.

use anyhow::{Result, ensure};
use serde_json::Value;
use strangler::Stage;
use tests::load::{Load, Plan};
use tests::{Binaries, Operator, Shop, story, until};

use super::{MOVED, SETTLED, SOON, clients, more, say, until_back};
use crate::handover::{count, paid, until_all_at};

/// Payments that are at the source before any moves.
const BEFORE: usize = 100;

/// Waits until the status says something.
async fn until_said(operator: &Operator, what: &str, said: impl Fn(&Value) -> bool) -> Result<()> {
    until(what, MOVED, async || {
        let status = operator.status().await?;
        ensure!(said(&status), "{} {}", status["target"], status["keys"]);
        Ok(Some(()))
    })
    .await
}

fn is_away(status: &Value) -> bool {
    status["target"].as_str().is_some_and(|target| target.contains("could not be asked"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_dies_during_the_ramp_the_hand_over_and_the_recall_loses_nothing() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        shop.start_all(&["acme", "globex"], &[]).await?;
        let (operator, client) = (shop.operator()?, shop.client("acme")?);
        let before = paid(&client, "before", BEFORE).await?;
        let load = Load::start(Plan { rate: 5, ..Plan::default() }, clients(&shop)?).await?;
        more(&load, 5).await?;
        operator.follow().await?;

        // During the ramp: half of the orders are its own to pay, and all are taken.
        operator.ramp(50).await?;
        more(&load, 10).await?;
        let service = world.kill("payments-service").await?;
        more(&load, 20).await?;
        until_said(&operator, "the service to be missed", is_away).await?;
        shop.start_ready(service).await?;
        say("the service died during the ramp")?;

        // On the way to it: what is between the homes comes back, and no other key leaves.
        operator.ramp(100).await?;
        let at_source = count(&operator.status().await?, "source");
        operator.primary().await?;
        // None is born there any more.
        let began = |status: &Value| count(status, "source") < at_source;
        until_said(&operator, "keys to leave the source", began).await?;
        let service = world.kill("payments-service").await?;
        more(&load, 10).await?;
        let stays = |status: &Value| is_away(status) && count(status, "moving") == 0;
        until_said(&operator, "what was on its way to be the source's again", stays).await?;
        shop.start_ready(service).await?;
        until_all_at(&operator, "target").await?;
        say("the service died during the hand-over")?;

        // On the way back: nobody can prove that it stopped writing, so what is not released waits.
        let at_target = count(&operator.status().await?, "target");
        operator.rollback().await?;
        let began = |status: &Value| count(status, "target") < at_target;
        until_said(&operator, "keys to be called back", began).await?;
        let service = world.kill("payments-service").await?;
        more(&load, 10).await?;
        until_said(&operator, "the service to be missed", is_away).await?;
        shop.start_ready(service).await?;
        until_back(&operator, Stage::Following).await?;
        say("the service died during the recall")?;

        let tally = load.stop().await?;
        ensure!(tally.failures.is_empty(), "{tally}");
        shop.settle(SETTLED).await?;
        until_all_at(&operator, "source").await?;
        until_said(&operator, "the service to serve", |status| !is_away(status)).await?;
        let findings = shop.check([before, tally.accepted].concat()).await?;
        assert!(findings.holds(), "{findings}");
        ensure!(findings.paid > BEFORE, "orders of the load were paid, too: {findings}");
        until("no payment to be pinned", SOON, async || {
            let status = operator.status().await?;
            ensure!(status["pinned"] == 0, "{}", status["pinned"]);
            Ok(Some(()))
        })
        .await
    })
    .await;
}
