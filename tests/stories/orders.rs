//! Placing orders under bad conditions: the same key many times at once, and clients that go away.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use rand::Rng;
use serde_json::{Value, json};
use sqlx::PgPool;
use tests::checker::{Accepted, Ended};
use tests::load::Client;
use tests::{Binaries, Shop, story, until};

use crate::dropped::Sessions;

const SOON: Duration = Duration::from_secs(30);
/// A thousand orders take their time to be paid on a small machine.
const SETTLED: Duration = Duration::from_secs(120);

/// An order of one product of the tenant's.
pub(crate) async fn order(client: &Client, card: &str, capture_method: &str) -> Result<Value> {
    let products = client.products().await?;
    let product = products.first().context("the tenant sells nothing")?;
    Ok(json!({
        "lines": [{ "product_id": product.id, "quantity": 1 }],
        "currency": product.price.currency,
        "payment_method": card,
        "capture_method": capture_method,
    }))
}

/// Places an order and returns what the client knows of it.
pub(crate) async fn place(client: &Client, key: &str, body: &Value, ends: Ended) -> Result<Accepted> {
    until("the order to be accepted", SOON, async || {
        let answer = client.post("/v1/orders", key, body).await?;
        ensure!(answer.status == 201, "{} {}", answer.status, answer.body);
        let (order, payment) = (answer.text("id").to_owned(), answer.text("payment_id").to_owned());
        Ok(Some(Accepted { order, payment, ends }))
    })
    .await
}

async fn orders(pool: &PgPool) -> Result<i64> {
    Ok(sqlx::query_scalar("select count(*) from orders.orders").fetch_one(pool).await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_requests_with_one_key_make_one_order() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        shop.start_all(&["acme"], &[]).await?;
        let client = shop.client("acme")?;
        let body = order(&client, "pm_card_visa", "automatic").await?;

        let requests = (0..100).map(|_| client.post("/v1/orders", "one-key", &body));
        let answers = futures::future::try_join_all(requests).await?;
        for answer in &answers {
            ensure!(matches!(answer.status, 201 | 409), "{} {}", answer.status, answer.body);
        }
        let ids: BTreeSet<&str> = answers.iter().filter(|a| a.status == 201).map(|a| a.text("id")).collect();
        assert_eq!(ids.len(), 1, "all that were accepted are the same order");
        assert_eq!(orders(&shop.source).await?, 1);

        let again = place(&client, "one-key", &body, Ended::Paid).await?;
        assert_eq!(Some(again.order.as_str()), ids.first().copied(), "whoever asks again gets that order");
        let other = order(&client, "pm_card_declined", "automatic").await?;
        let reused = client.post("/v1/orders", "one-key", &other).await?;
        assert_eq!(
            (reused.status, reused.text("type")),
            (422, "https://banyan.dev/problems/idempotency-key-reused")
        );

        shop.settle(SOON).await?;
        let findings = shop.check(vec![again]).await?;
        assert!(findings.holds() && findings.paid == 1, "{findings}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_dropped_requests_leave_no_half_order() {
    const REQUESTS: usize = 1_000;
    const AT_ONCE: usize = 40;
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        shop.start_all(&["acme"], &[]).await?;
        let client = shop.client("acme")?;
        let body = order(&client, "pm_card_visa", "automatic").await?;

        // How long an answer takes when this many ask at once.
        let patient =
            futures::future::try_join_all((0..AT_ONCE).map(|n| answered_after(&client, n, &body))).await?;
        let usual = patient.iter().sum::<Duration>() / u32::try_from(AT_ONCE)?;
        let sessions = Sessions::count(&shop).await?;

        // Each is dropped, connection and all, somewhere between its first byte and its answer.
        let drops = futures::stream::iter(0..REQUESTS)
            .map(|n| drop_early(client.clone(), n, usual * 2, body.clone()));
        let answered: Vec<bool> = drops.buffer_unordered(AT_ONCE).try_collect().await?;
        let last_drop = Instant::now();
        let answered = answered.into_iter().filter(|answered| *answered).count();
        ensure!(answered < REQUESTS * 9 / 10, "{answered} were answered before they could be dropped");

        // Each connection of the pool is used now, and every order is stored whole.
        let mut accepted = Vec::new();
        for n in 0..50 {
            accepted.push(place(&client, &format!("after-{n}"), &body, Ended::Paid).await?);
        }
        let stored = orders(&shop.source).await?;
        ensure!(
            stored > 50 + i64::try_from(AT_ONCE)?,
            "all {REQUESTS} were dropped before they did anything"
        );
        shop.settle(SETTLED).await?;
        let findings = shop.check(accepted).await?;
        assert!(findings.holds(), "{findings}");
        assert_eq!(i64::try_from(findings.paid)?, stored, "every stored order is paid");
        sessions.are_whole(last_drop).await
    })
    .await;
}

async fn answered_after(client: &Client, n: usize, body: &Value) -> Result<Duration> {
    let started = Instant::now();
    place(client, &format!("patient-{n}"), body, Ended::Paid).await?;
    Ok(started.elapsed())
}

/// True when the answer was faster than the drop. Whatever else ends a request is no drop.
async fn drop_early(client: Client, n: usize, patience_max: Duration, body: Value) -> Result<bool> {
    let patience = patience_max.mul_f64(rand::rng().random_range(0.0..1.0));
    let key = format!("dropped-{n}");
    let request =
        client.request(reqwest::Method::POST, "/v1/orders").header("idempotency-key", key).json(&body);
    let sent = tokio::time::timeout(patience, request.send()).await.ok();
    let answered = sent.transpose().context("a request failed by itself")?;
    let Some(status) = answered.map(|answer| answer.status().as_u16()) else { return Ok(false) };
    ensure!(matches!(status, 201 | 409 | 503), "order {n}: {status}");
    Ok(true)
}
