//! A feed stands still and nobody is told: by SIGSTOP a process keeps its connections and does nothing.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use strangler::Stage;
use tests::checker::{Accepted, Ended};
use tests::{Binaries, Operator, Shop, story, until};

use super::{MOVED, SETTLED, number, say, start_apart, until_back};
use crate::handover::{count, none_is_pinned, paid, refund_once, until_all_at};
use crate::migration::{command, until_status};
use crate::orders::{order, place};

/// How long the relay stands still.
const AWAY: Duration = Duration::from_secs(60);
/// Why a key stays that was on its way for too long.
const LATE: &str = "the target had not applied its offer in time";
const ADVANCE: &str = "/admin/migrations/payments/advance";

/// Asks for a stage once; it must be refused. Returns what the answer says of a gate.
async fn refused_by(shop: &Shop<'_>, stage: &str, gate: &str) -> Result<Value> {
    let body = json!({ "to": stage });
    let answer = shop.operator_client()?.post(ADVANCE, &uuid::Uuid::now_v7().to_string(), &body).await?;
    ensure!(answer.status == 409, "{} {}", answer.status, answer.body);
    let gates = answer.body["gates"].as_array().context("a refusal shows its gates")?;
    let found = gates.iter().find(|found| found["name"] == gate);
    Ok(found.with_context(|| format!("no gate {gate}: {}", answer.body))?.clone())
}

/// Orders that nobody can pay for now: all of them are taken.
async fn taken(shop: &Shop<'_>, name: &str, orders: usize) -> Result<Vec<Accepted>> {
    let client = shop.client("acme")?;
    let body = order(&client, "pm_card_visa", "automatic").await?;
    let mut taken = Vec::new();
    for number in 0..orders {
        taken.push(place(&client, &format!("{name}-{number}"), &body, Ended::Paid).await?);
    }
    Ok(taken)
}

/// Looks for a whole minute, while keys leave the source and come back because no offer arrives. Returns how many were on their way
/// at the most.
async fn none_arrives(operator: &Operator, at_target: i64) -> Result<i64> {
    let (began, mut moving) = (Instant::now(), 0);
    let arrived = until("a minute to pass", AWAY * 2, async || {
        let status = operator.status().await?;
        moving = moving.max(count(&status, "moving"));
        // This must not be looked at again.
        let other = (count(&status, "target") > at_target).then(|| status["keys"].to_string());
        Ok((other.is_some() || began.elapsed() >= AWAY).then_some(other))
    });
    match arrived.await? {
        Some(keys) => bail!("keys became the target's without their offers: {keys}"),
        None => Ok(moving),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_come_back_by_themselves_while_the_relay_stands_still_and_go_when_it_is_back() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        start_apart(&shop, "relay", "web,inbox,controller").await?;
        let (operator, client) = (shop.operator()?, shop.client("acme")?);
        let mut accepted = paid(&client, "before", 30).await?;
        operator.follow().await?;
        operator.ramp(100).await?;
        accepted.extend(paid(&client, "at-the-target", 5).await?);
        shop.settle(SETTLED).await?;
        let at_target = count(&operator.status().await?, "target");
        // All that was written has arrived, and the last heartbeat counts for three intervals, so the gates pass.
        until("a fresh heartbeat of the source", SETTLED, async || {
            let age = number(&operator.status().await?, "/feed/heartbeat_age_ms")?;
            ensure!(age < 1_500, "it is {age} ms old");
            Ok(Some(()))
        })
        .await?;
        world.pause("relay").await?;
        operator.primary().await?;
        accepted.extend(taken(&shop, "meanwhile", 5).await?);
        // Those five are the target's from their birth, though it has not heard of them.
        let moving = none_arrives(&operator, at_target + 5).await?;
        ensure!(moving > 0, "no key was on its way in a minute without a relay");
        let pinned = operator.pinned().await?;
        let keys = pinned["keys"].as_array().context("a list of keys")?;
        ensure!(keys.iter().any(|it| it["why"] == LATE), "{pinned}");
        say(format!("{moving} keys were on their way at once, and all came back"))?;
        world.resume("relay").await?;
        until_all_at(&operator, "target").await?;
        for it in &accepted {
            until_status(&client, &it.payment, "captured").await?;
        }
        shop.settle(SETTLED).await?;
        none_is_pinned(&operator).await?;
        let findings = shop.check(accepted).await?;
        assert!(findings.holds(), "{findings}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reverse_feed_that_stands_still_stops_the_way_forward_and_the_way_back_waits_for_it() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        start_apart(&shop, "inbox", "web,relay,controller").await?;
        let (operator, client) = (shop.operator()?, shop.client("acme")?);
        let mut accepted = paid(&client, "before", 20).await?;
        operator.follow().await?;
        operator.ramp(100).await?;
        accepted.extend(paid(&client, "at-the-target", 5).await?);
        shop.settle(SETTLED).await?;

        world.pause("inbox").await?;
        // The service pays for these, and the source does not hear of it.
        accepted.extend(paid(&client, "unheard-of", 3).await?);
        let gate = refused_by(&shop, "primary", "reverse_feed").await?;
        assert_eq!(gate["verdict"], json!("fail"), "{gate}");
        say(format!("forward: {}", gate["found"]))?;

        operator.rollback().await?;
        until("all of them to be called back", MOVED, async || {
            let status = operator.status().await?;
            let waits = count(&status, "recalling") == 8 && status["draining"] == true;
            ensure!(waits && number(&status, "/reverse_feed/behind")? > 0, "{status}");
            Ok(Some(()))
        })
        .await?;
        // Released there, and not taken here: nobody owns them, and their reads go on.
        until_status(&client, &accepted[20].payment, "captured").await?;
        refund_once(&client, &accepted[20].payment, 503).await?;
        let status = operator.status().await?;
        assert_eq!((count(&status, "recalling"), &status["stage"]), (8, &json!("ramping")), "{status}");

        world.resume("inbox").await?;
        until_back(&operator, Stage::Following).await?;
        until_all_at(&operator, "source").await?;
        command(&client, &accepted[20].payment, "refunds", &json!({ "amount_minor": 100 })).await?;
        shop.settle(SETTLED).await?;
        none_is_pinned(&operator).await?;
        let findings = shop.check(accepted).await?;
        assert!(findings.holds(), "{findings}");
        Ok(())
    })
    .await;
}
