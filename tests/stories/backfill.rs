//! A service that has lost its copies gets them from the source, and what differs is named and mended.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use tests::checker::{Accepted, Ended};
use tests::load::{Client, Load, Plan};
use tests::{Binaries, Operator, Shop, story, until};

use crate::orders::{order, place};

/// Payments that are older than what the service knows.
const OLD: usize = 2_000;
/// Orders placed at the same time.
const AT_ONCE: usize = 40;
const SOON: Duration = Duration::from_secs(30);
const FILLED: Duration = Duration::from_secs(120);
const SETTLED: Duration = Duration::from_secs(180);

async fn paid(client: &Client) -> Result<Vec<Accepted>> {
    let body = order(client, "pm_card_visa", "automatic").await?;
    let body = &body;
    let placed = stream::iter(0..OLD)
        .map(|number| async move { place(client, &format!("old-{number}"), body, Ended::Paid).await });
    placed.buffer_unordered(AT_ONCE).try_collect().await
}

/// A number that a status tells of the backfill.
fn filled(status: &Value, field: &str) -> i64 {
    status.pointer(&format!("/backfill/{field}")).and_then(Value::as_i64).unwrap_or(-1)
}

/// Compares the copies until none differs and none is on its way.
async fn until_equal(operator: &Operator) -> Result<Value> {
    until("all copies to be equal", FILLED, async || {
        let parity = operator.parity().await?;
        ensure!(parity["verdict"] == "pass", "{parity}");
        Ok(Some(parity))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_gets_what_it_lacks_under_load_and_what_differs_is_named_and_mended() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        shop.start_all(&["acme", "globex"], &[]).await?;
        let (operator, client) = (shop.operator()?, shop.client("acme")?);
        let old = paid(&client).await?;
        shop.settle(SETTLED).await?;
        let service = world.stop("payments-service").await?;
        shop.empty_replica().await?;
        let clients = vec![shop.client("acme")?, shop.client("globex")?];
        let load = Load::start(Plan { rate: 5, ..Plan::default() }, clients).await?;
        shop.start_ready(service).await?;

        // As long as someone holds a payment, no walk finds that nothing is lacking.
        let last = old.last().context("none was placed")?.payment.clone();
        let mut held = shop.source.begin().await?;
        sqlx::query("select from payments.payment where id = $1::uuid for update")
            .bind(&last)
            .execute(&mut *held)
            .await?;
        operator.follow().await?;
        until("the backfill to be under way", SOON, async || {
            let status = operator.status().await?;
            ensure!(filled(&status, "published") >= 400, "{}", status["backfill"]);
            Ok(Some(()))
        })
        .await?;
        let monolith = world.kill("monolith").await?;
        shop.start_ready(monolith).await?;
        held.rollback().await?;
        until("the backfill to be done", FILLED, async || {
            let status = operator.status().await?;
            ensure!(!status["backfill"]["done_at"].is_null(), "{}", status["backfill"]);
            Ok(Some(()))
        })
        .await?;
        let parity = until_equal(&operator).await?;
        ensure!(parity["compared"].as_u64() >= u64::try_from(OLD).ok(), "{parity}");

        let altered = &old[OLD / 2].payment;
        sqlx::query("update payments.payment set provider_ref = 'pi_altered' where id = $1::uuid")
            .bind(altered)
            .execute(&shop.target)
            .await?;
        let parity = operator.parity().await?;
        assert_eq!(parity["verdict"], json!("fail"), "{parity}");
        assert_eq!(parity["different"], json!({ "count": 1, "keys": [altered] }), "{parity}");
        let repaired = operator.repair(&[altered.as_str()]).await?;
        assert_eq!(repaired["published"], json!([altered]), "{repaired}");
        until_equal(&operator).await?;
        operator.ramp(50).await?;

        let tally = load.stop().await?;
        ensure!(tally.failures.is_empty(), "{tally}");
        shop.settle(SETTLED).await?;
        let findings = shop.check([old, tally.accepted].concat()).await?;
        assert!(findings.holds(), "{findings}");
        Ok(())
    })
    .await;
}
