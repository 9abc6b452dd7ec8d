//! Ten thousand requests of every kind, dropped by their clients at random moments.

mod sessions;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt};
use rand::Rng;
use serde_json::{Value, json};
use sqlx::PgPool;
use tests::checker::{Accepted, Ended};
use tests::load::Client;
use tests::{Binaries, Shop, Side, story, until};

pub(crate) use self::sessions::Sessions;
use crate::migration::{born_at, until_status};
use crate::orders::{order, place};

const REQUESTS: usize = 10_000;
const AT_ONCE: usize = 40;
/// After so many the clients' patience is set anew, so that some are dropped early and some late, however busy the machine is.
const ROUND: usize = 500;
/// One in this many is an order; the others are commands.
const ORDERS_EVERY: usize = 5;
/// Payments that are refunded bit by bit.
const CAPTURED: usize = 60;
/// Payments that are captured or voided, whichever comes first.
const AUTHORIZED: usize = 60;

/// The key under which a payment that is left authorized is voided afterwards.
const THE_END: &str = "the-end";

const SOON: Duration = Duration::from_secs(120);
/// Thousands of orders take their time to be paid on a small machine.
const SETTLED: Duration = Duration::from_secs(300);

/// What is asked for.
struct Ask {
    path: String,
    key: String,
    body: Value,
}

impl Ask {
    /// What no other request has but one that repeats it.
    fn name(&self) -> String {
        format!("{}/{}", self.path, self.key)
    }
}

/// The payments that commands are given on, and a body for orders.
struct Targets {
    purchase: Value,
    captured: Vec<Accepted>,
    authorized: Vec<Accepted>,
}

impl Targets {
    async fn prepare(client: &Client) -> Result<Self> {
        let purchase = order(client, "pm_card_visa", "automatic").await?;
        let manual = order(client, "pm_card_visa", "manual").await?;
        let captured = many(client, "before", "captured", &purchase, CAPTURED).await?;
        let authorized = many(client, "before", "authorized", &manual, AUTHORIZED).await?;
        for (list, status) in [(&captured, "captured"), (&authorized, "authorized")] {
            for accepted in list {
                until_status(client, &accepted.payment, status).await?;
            }
        }
        Ok(Self { purchase, captured, authorized })
    }

    /// The n-th request. Some keys come twice, so that a drop meets a repetition.
    fn ask(&self, n: usize) -> Ask {
        if n.is_multiple_of(ORDERS_EVERY) {
            let key = format!("dropped-{}", n / (2 * ORDERS_EVERY));
            return Ask { path: "/v1/orders".to_owned(), key, body: self.purchase.clone() };
        }
        let (list, verb, body) = match n % 10 {
            1 => (&self.authorized, "capture", json!({})),
            2 => (&self.authorized, "void", json!({})),
            _ => (&self.captured, "refunds", json!({ "amount_minor": 1 })),
        };
        let payment = &list[(n / 7) % list.len()].payment;
        Ask { path: format!("/v1/payments/{payment}/{verb}"), key: format!("{verb}-{}", n / 2), body }
    }
}

/// Places orders whose payments will have the status.
async fn many(
    client: &Client,
    when: &str,
    status: &str,
    body: &Value,
    count: usize,
) -> Result<Vec<Accepted>> {
    let keys: Vec<String> = (0..count).map(|n| format!("{when}-{status}-{n}")).collect();
    try_join_all(keys.iter().map(|key| place(client, key, body, Ended::Paid))).await
}

/// The status of an answer that was faster than the drop. Whatever else ends a request is no drop.
async fn drop_early(client: Client, ask: Ask, patience_max: Duration) -> Result<Option<u16>> {
    let patience = patience_max.mul_f64(rand::rng().random_range(0.0..1.0));
    let request = client.request(reqwest::Method::POST, &ask.path).header("idempotency-key", &ask.key);
    let sent = tokio::time::timeout(patience, request.json(&ask.body).send()).await.ok();
    let answered = sent.transpose().with_context(|| format!("{} under {} failed", ask.path, ask.key))?;
    let Some(status) = answered.map(|answer| answer.status().as_u16()) else { return Ok(None) };
    ensure!(matches!(status, 200..=202 | 409 | 503), "{} under {}: {status}", ask.path, ask.key);
    Ok(Some(status))
}

/// Sends all requests, and returns the keys of which none was answered, as [`Ask::name`]s. About a quarter of each round is to be answered before they are dropped: then the others are dropped everywhere
/// on their way.
async fn drop_all(client: &Client, targets: &Targets, mut patience: Duration) -> Result<BTreeSet<String>> {
    let (mut answered, mut dropped) = (BTreeSet::new(), BTreeSet::new());
    let mut drops = 0;
    for from in (0..REQUESTS).step_by(ROUND) {
        let round = from..from + ROUND;
        let sent = futures::stream::iter(round).map(async |n| {
            let ask = targets.ask(n);
            let name = ask.name();
            Ok::<_, anyhow::Error>((name, drop_early(client.clone(), ask, patience).await?))
        });
        let sent: Vec<(String, Option<u16>)> = sent.buffer_unordered(AT_ONCE).try_collect().await?;
        let in_time = sent.iter().filter(|(_, status)| status.is_some()).count();
        patience = if in_time < ROUND / 4 { patience * 5 / 4 } else { patience * 4 / 5 };
        for (name, status) in sent {
            match status {
                None => {
                    drops += 1;
                    dropped.insert(name);
                }
                // Nothing was done.
                Some(503) => {}
                Some(_) => {
                    answered.insert(name);
                }
            }
        }
    }
    ensure!(drops > REQUESTS / 2, "{drops} were dropped before they were answered");
    Ok(dropped.difference(&answered).cloned().collect())
}

/// How long an answer takes when as many ask at once as later.
async fn usual(client: &Client, body: &Value) -> Result<Duration> {
    let keys: Vec<String> = (0..AT_ONCE).map(|n| format!("patient-{n}")).collect();
    let timed = keys.iter().map(async |key| {
        let started = Instant::now();
        place(client, key, body, Ended::Paid).await?;
        Ok::<_, anyhow::Error>(started.elapsed())
    });
    let sum: Duration = try_join_all(timed).await?.iter().sum();
    Ok(sum / u32::try_from(AT_ONCE)?)
}

/// Every authorized payment comes to an end, and the checker is told which.
async fn finish(client: &Client, authorized: &[Accepted]) -> Result<Vec<Accepted>> {
    let mut ended = Vec::new();
    for accepted in authorized {
        let payment = &accepted.payment;
        let ends = until(&format!("payment {payment} to end"), SOON, async || {
            let answer = client.get(&format!("/v1/payments/{payment}")).await?;
            ensure!(answer.body["outcome_pending"] == json!(false), "its outcome is pending");
            match answer.text("status") {
                "captured" => Ok(Some(Ended::Paid)),
                "voided" => Ok(Some(Ended::Cancelled)),
                _ => {
                    client.post(&format!("/v1/payments/{payment}/void"), THE_END, &json!({})).await?;
                    Ok(None)
                }
            }
        })
        .await?;
        ended.push(Accepted { ends, ..accepted.clone() });
    }
    Ok(ended)
}

async fn dropped(side: Side) {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        shop.start_all(&["acme"], &[]).await?;
        let client = shop.client("acme")?;
        let first = born_at(&shop, side, &client).await?;
        let targets = Targets::prepare(&client).await?;
        let patience = usual(&client, &targets.purchase).await? * 2;
        let sessions = Sessions::count(&shop).await?;
        let dropped = drop_all(&client, &targets, patience).await?;
        let last_drop = Instant::now();

        // Each connection of the pools is used now. These orders wait behind those of clients that left.
        let mut accepted = many(&client, "after", "captured", &targets.purchase, CAPTURED).await?;
        accepted.extend(finish(&client, &targets.authorized).await?);
        shop.settle(SETTLED).await?;
        let home = if side == Side::Source { &shop.source } else { &shop.target };
        Outlived::count(&shop.source, home, dropped).await?.are_enough()?;
        accepted.extend(first);
        let findings = shop.check(accepted).await?;
        assert!(findings.holds(), "{findings}");
        sessions.are_whole(last_drop).await
    })
    .await;
}

/// What was done for requests of which no client has heard, by kind.
#[derive(Debug)]
struct Outlived {
    orders: i64,
    refunds: i64,
    captures: i64,
    voids: i64,
}

impl Outlived {
    /// `dropped`: what [`drop_all`] returned.
    async fn count(source: &PgPool, home: &PgPool, dropped: BTreeSet<String>) -> Result<Self> {
        let dropped: Vec<String> = dropped.into_iter().collect();
        let orders = "select count(*) from orders.orders where '/v1/orders/' || idempotency_key = any($1)";
        let commands = "
            select count(*) filter (where operation = 'refund'),
                   count(*) filter (where operation = 'capture'),
                   count(*) filter (where operation = 'void')
            from payments.intent
            where state = 'done'
              and '/v1/payments/' || payment_id || '/' || case operation when 'refund' then 'refunds' else operation end || '/'
                  || idempotency_key = any($1)";
        let orders = sqlx::query_scalar(orders).bind(&dropped).fetch_one(source).await?;
        let (refunds, captures, voids): (i64, i64, i64) =
            sqlx::query_as(commands).bind(&dropped).fetch_one(home).await?;
        Ok(Self { orders, refunds, captures, voids })
    }

    /// Some of each kind. Of captures and voids there can be few: an authorized payment takes one of them, mostly the capture, which is
    /// asked for first.
    fn are_enough(&self) -> Result<()> {
        let least = |count: usize| i64::try_from(count);
        ensure!(
            self.orders >= least(REQUESTS / ORDERS_EVERY / 2 / 100)?
                && self.refunds >= least(CAPTURED / 2)?
                && self.captures >= 1
                && self.voids >= 1,
            "too little outlived its requests: {self:?}"
        );
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_dropped_requests_lose_and_double_nothing() {
    dropped(Side::Source).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_dropped_requests_through_the_service_lose_and_double_nothing() {
    dropped(Side::Target).await;
}
