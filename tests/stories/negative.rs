//! The suite is real: four ways of migrating that this house refuses, each built as a double beside the running shop and over its real
//! tables, are found by the checker that all stories end with. Without the harm the same picture holds.

mod doubles;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::checker::{Accepted, Broken, Findings};
use tests::load::Client;
use tests::{Binaries, Shop, Side, World, until};

use self::doubles::{Both, Cached, Everyone, desk, live_shadow, naive_copy, naive_write, refund};
use crate::handover::{paid, until_all_at};
use crate::migration::command;

const SOON: Duration = Duration::from_secs(30);
const SETTLED: Duration = Duration::from_secs(90);
/// A whole picture with its harm.
const TOLD: Duration = Duration::from_secs(300);

/// What the checker must find of the payment that was harmed.
type Wanted = fn(&Findings) -> &Broken;

/// Does harm to one of two payments and demands that the checker finds all that is wanted of it, and nothing of the other. It is no
/// `story`: a world that was harmed comes to no rest.
async fn is_found(wanted: &[Wanted], harm: impl AsyncFnOnce(&Shop<'_>, &Client, &str) -> Result<()>) {
    let told = tokio::time::timeout(TOLD, Box::pin(tell(wanted, harm))).await;
    match told.context("the harm took too long") {
        Ok(Ok(())) => {}
        Ok(Err(error)) | Err(error) => panic!("{error:?}"),
    }
}

async fn tell(
    wanted: &[Wanted],
    harm: impl AsyncFnOnce(&Shop<'_>, &Client, &str) -> Result<()>,
) -> Result<()> {
    let stack = stack::shared().await?;
    let logs =
        tempfile::Builder::new().prefix("banyan-story-").tempdir().context("make a folder for logs")?;
    let world = World::new(stack, "harmed", logs.path())?;
    let found = async {
        let shop = Shop::open(&world, stack, Binaries::fresh().await?).await?;
        shop.start_all(&["acme"], &[]).await?;
        let client = shop.client("acme")?;
        let accepted = paid(&client, "order", 2).await?;
        shop.settle(SETTLED).await?;
        until("all to hold before the harm", SOON, async || {
            let before = shop.check(accepted.clone()).await?;
            ensure!(before.holds(), "{before}");
            Ok(Some(()))
        })
        .await?;
        let victim = accepted.first().context("no payment")?.payment.clone();
        Box::pin(harm(&shop, &client, &victim)).await?;
        world.delivered(SOON).await?;
        Box::pin(finds(&shop, accepted, wanted)).await
    };
    let found = Box::pin(found).await;
    if found.is_err() {
        eprintln!("{}", world.tails().await);
    }
    world.close().await?;
    found
}

/// The first of the payments is in all that is wanted, and the others are in nothing. What has been delivered may still be on its way
/// into the other home's tables.
async fn finds(shop: &Shop<'_>, accepted: Vec<Accepted>, wanted: &[Wanted]) -> Result<()> {
    let (victim, others) = accepted.split_first().context("no payment")?;
    until("the checker to find the harm, and nothing else", SOON, async || {
        let findings = shop.check(accepted.clone()).await?;
        ensure!(!findings.holds(), "it holds:\n{findings}");
        for (n, wanted) in wanted.iter().enumerate() {
            let is_named = wanted(&findings).keys().any(|key| key.contains(&victim.payment));
            ensure!(is_named, "wanted {n} has no {}:\n{findings}", victim.payment);
        }
        let told = findings.to_string();
        let astray = others.iter().find(|it| told.contains(&it.payment) || told.contains(&it.order));
        ensure!(astray.is_none(), "{astray:?} was not harmed:\n{findings}");
        Ok(Some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_synchronous_dual_write_is_found() {
    // Each home asks the provider for it, so the money goes back twice under one key.
    is_found(&[|findings| &findings.charged_twice], async |shop, _, payment| {
        let everyone = || Arc::new(Everyone);
        let both = Both {
            source: desk(shop, Side::Source, everyone()).await?,
            target: desk(shop, Side::Target, everyone()).await?,
        };
        refund(&both, payment, 100, "twice").await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cached_owner_in_writes_is_found() {
    // The home that no longer owns the payment writes on: two events claim one version, and the owner's books lack the money.
    let wanted: &[Wanted] = &[|findings| &findings.events_out_of_order, |findings| &findings.books];
    is_found(wanted, async |shop, client, payment| {
        let cached = Arc::new(Cached::new(shop.source.clone()));
        let desk = desk(shop, Side::Source, cached).await?;
        refund(&desk, payment, 100, "while it is the owner").await?;
        let operator = shop.operator()?;
        operator.follow().await?;
        operator.ramp(100).await?;
        paid(client, "there", 1).await?;
        operator.primary().await?;
        until_all_at(&operator, "target").await?;
        shop.settle(SETTLED).await?;
        refund(&desk, payment, 50, "when it is not").await?;
        command(client, payment, "refunds", &json!({ "amount_minor": 25 })).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_naive_backfill_is_found() {
    // The row was read before a refund and is written after it, over the newer one.
    is_found(&[|findings| &findings.parity], async |shop, client, payment| {
        let row = naive_copy(&shop.source, payment).await?;
        command(client, payment, "refunds", &json!({ "amount_minor": 100 })).await?;
        shop.settle(SETTLED).await?;
        naive_write(&shop.target, &row).await?;
        let parity = shop.operator()?.parity().await?;
        ensure!(parity["verdict"] != json!("pass"), "the migration's own comparison passes: {parity}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_with_a_live_provider_is_found() {
    // It only wants to compare outcomes, and charges the card again.
    let wanted: &[Wanted] = &[|findings| &findings.charged_twice, |findings| &findings.books];
    is_found(wanted, async |shop, _, payment| live_shadow(shop, payment).await).await;
}
