//! Payments change their home: all of them, there and back, under live orders, with a service that dies and a provider that is away.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use serde_json::{Value, json};
use tests::checker::{Accepted, Ended};
use tests::load::{Client, Load, Plan};
use tests::{Binaries, Operator, Shop, story, until};

use crate::faults::more;
use crate::migration::{command, until_status};
use crate::orders::{order, place};
use crate::webhooks::{Sender, event};

const SOON: Duration = Duration::from_secs(30);
/// What is pinned is looked at again every 8 s at last.
const MOVED: Duration = Duration::from_secs(120);
const SETTLED: Duration = Duration::from_secs(90);
/// Payments that are captured at the source before any moves.
const CAPTURED: usize = 200;

/// How many keys a status counts in one place.
pub(crate) fn count(status: &Value, place: &str) -> i64 {
    status.pointer(&format!("/keys/{place}")).and_then(Value::as_i64).unwrap_or(-1)
}

/// Waits until every key is at one home, and the home knows it.
pub(crate) async fn until_all_at(operator: &Operator, home: &str) -> Result<()> {
    let other = if home == "target" { "source" } else { "target" };
    until(&format!("every payment to be at the {home}"), MOVED, async || {
        let status = operator.status().await?;
        let left = [other, "moving", "recalling", "granting"].map(|place| count(&status, place));
        ensure!(left == [0; 4], "{} {}", status["keys"], status["pinned"]);
        Ok(Some(()))
    })
    .await
}

/// What has left is forgotten at the controller's next look.
pub(crate) async fn none_is_pinned(operator: &Operator) -> Result<()> {
    until("no payment to be pinned", SOON, async || {
        let status = operator.status().await?;
        ensure!(status["pinned"] == json!(0), "{}", status["pinned"]);
        Ok(Some(()))
    })
    .await
}

/// Places so many orders and waits until all are paid.
pub(crate) async fn paid(client: &Client, name: &str, orders: usize) -> Result<Vec<Accepted>> {
    let body = order(client, "pm_card_visa", "automatic").await?;
    let placed = try_join_all((0..orders).map(|number| {
        let (key, body) = (format!("{name}-{number}"), &body);
        async move { place(client, &key, body, Ended::Paid).await }
    }));
    let placed = placed.await?;
    for accepted in &placed {
        until_status(client, &accepted.payment, "captured").await?;
    }
    Ok(placed)
}

/// Asks for a refund of 100 once, and must hear this status. Its key is that of [`command`], which asks again later.
pub(crate) async fn refund_once(client: &Client, payment: &str, status: u16) -> Result<()> {
    let key = format!("refunds-{payment}");
    let path = format!("/v1/payments/{payment}/refunds");
    let answer = client.post(&path, &key, &json!({ "amount_minor": 100 })).await?;
    ensure!(answer.status == status, "{} {}", answer.status, answer.body);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_payments_go_to_the_service_and_back_and_there_again_under_load() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        let webhooks = shop.webhook_url();
        shop.start_all(&["acme", "globex"], &[("PROVIDER_WEBHOOK_URL", &webhooks)]).await?;
        let (operator, client) = (shop.operator()?, shop.client("acme")?);
        let before = paid(&client, "before", CAPTURED).await?;
        let clients = vec![shop.client("acme")?, shop.client("globex")?];
        let load = Load::start(Plan { rate: 4, ..Plan::default() }, clients).await?;

        // A part is over when this many more orders were accepted in it.
        more(&load, 20).await?;
        operator.follow().await?;
        operator.ramp(100).await?;
        operator.primary().await?;
        until_all_at(&operator, "target").await?;
        command(&client, &before[0].payment, "refunds", &json!({ "amount_minor": 100 })).await?;
        more(&load, 20).await?;
        operator.rollback().await?;
        until_all_at(&operator, "source").await?;
        // The key was used at the other home: it gives the same answer here.
        command(&client, &before[0].payment, "refunds", &json!({ "amount_minor": 100 })).await?;
        command(&client, &before[1].payment, "refunds", &json!({})).await?;
        more(&load, 20).await?;
        operator.ramp(100).await?;
        operator.primary().await?;
        until_all_at(&operator, "target").await?;
        more(&load, 20).await?;

        let tally = load.stop().await?;
        ensure!(tally.failures.is_empty(), "{tally}");
        shop.settle(SETTLED).await?;
        until_all_at(&operator, "target").await?;
        none_is_pinned(&operator).await?;
        let findings = shop.check([before, tally.accepted].concat()).await?;
        assert!(findings.holds(), "{findings}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_away_keeps_its_payments_until_it_is_back_and_gives_them_up_then() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        shop.start_all(&["acme"], &[]).await?;
        let (operator, client) = (shop.operator()?, shop.client("acme")?);
        let mut accepted = paid(&client, "before", 27).await?;
        operator.follow().await?;
        operator.ramp(100).await?;
        accepted.extend(paid(&client, "there", 3).await?);
        operator.primary().await?;
        until_all_at(&operator, "target").await?;

        let service = world.kill("payments-service").await?;
        operator.rollback().await?;
        until("the status to say that the service is away", SOON, async || {
            let status = operator.status().await?;
            let target = status["target"].as_str().unwrap_or_default();
            ensure!(target.contains("could not be asked") && status["draining"] == json!(true), "{status}");
            Ok(Some(()))
        })
        .await?;
        // Nobody can prove that the service writes nothing more: its payments wait, and those of others don't.
        let payment = accepted[0].payment.clone();
        refund_once(&client, &payment, 503).await?;
        accepted.extend(paid(&client, "meanwhile", 3).await?);
        let why = operator.why(&payment).await?;
        assert_eq!((&why["owner"], &why["phase"]), (&json!("target"), &json!("settled")));
        assert_eq!(count(&operator.status().await?, "target"), 30, "a recall that nobody hears is not begun");

        shop.start_ready(service).await?;
        until_all_at(&operator, "source").await?;
        command(&client, &payment, "refunds", &json!({ "amount_minor": 100 })).await?;
        shop.settle(SETTLED).await?;
        let findings = shop.check(accepted).await?;
        assert!(findings.holds(), "{findings}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_that_is_called_back_hears_the_provider_and_answers_under_its_keys() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        shop.start_all(&["acme"], &[]).await?;
        let (operator, client) = (shop.operator()?, shop.client("acme")?);
        let mut accepted = paid(&client, "before", 3).await?;
        operator.follow().await?;
        operator.ramp(100).await?;
        accepted.extend(paid(&client, "there", 1).await?);
        operator.primary().await?;
        until_all_at(&operator, "target").await?;
        let payment = accepted[0].payment.clone();
        let path = format!("/v1/payments/{payment}/refunds");
        let answered = client.post(&path, "answered", &json!({ "amount_minor": 100 })).await?;
        ensure!(answered.status == 200, "{} {}", answered.status, answered.body);
        let intent: String =
            sqlx::query_scalar("select provider_ref from payments.payment where id = $1::uuid")
                .bind(&payment)
                .fetch_one(&shop.target)
                .await?;

        let provider = world.kill("provider").await?;
        let open = client.post(&path, "open", &json!({ "amount_minor": 50 })).await?;
        ensure!(open.status == 202, "{} {}", open.status, open.body);
        // An hour until its next try: only what the provider tells hastens it.
        let rests = "update payments.intent set next_at = clock_timestamp() + interval '1 hour'
                     where payment_id = $1::uuid and state <> 'done' and claimed_until <= clock_timestamp()
                     returning 1";
        until("the refund to rest", SOON, async || {
            Ok(sqlx::query_scalar::<_, i32>(rests).bind(&payment).fetch_optional(&shop.target).await?)
        })
        .await?;
        operator.rollback().await?;
        until("the payment to be called back", SOON, async || {
            let sql = "select key from strangler.authority where key = $1 and recall_epoch is not null";
            Ok(sqlx::query_scalar::<_, String>(sql).bind(&payment).fetch_optional(&shop.target).await?)
        })
        .await?;
        let repeat = client.post(&path, "answered", &json!({ "amount_minor": 100 })).await?;
        assert_eq!(
            (repeat.status, &repeat.body),
            (200, &answered.body),
            "its answer, while it is called back"
        );
        let new = client.post(&path, "new", &json!({ "amount_minor": 1 })).await?;
        ensure!(new.status == 503, "nothing new begins: {} {}", new.status, new.body);

        world.start(provider).await?;
        Sender::new(&shop).taken(&event("evt_back", "payment_intent.succeeded", &payment, &intent)).await?;
        until_all_at(&operator, "source").await?;
        shop.settle(SETTLED).await?;
        let findings = shop.check(accepted).await?;
        assert!(findings.holds(), "{findings}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_that_waits_for_the_provider_is_pinned_with_the_reason_and_goes_when_it_is_done() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        shop.start_all(&["acme"], &[]).await?;
        let (operator, client) = (shop.operator()?, shop.client("acme")?);
        let mut accepted = paid(&client, "before", 4).await?;
        operator.follow().await?;
        operator.ramp(100).await?;
        accepted.extend(paid(&client, "there", 1).await?);
        operator.ramp(0).await?;
        let provider = world.kill("provider").await?;
        let body = order(&client, "pm_card_visa", "automatic").await?;
        let open = place(&client, "open", &body, Ended::Paid).await?;
        until("its charge to be under way", SOON, async || {
            let sql = "select count(*) from payments.intent where state <> 'done'";
            let open: i64 = sqlx::query_scalar(sql).fetch_one(&shop.source).await?;
            ensure!(open == 1, "{open} commands are open");
            Ok(Some(()))
        })
        .await?;
        operator.ramp(100).await?;
        operator.primary().await?;
        until("the payment to be pinned, and no other", SOON, async || {
            let (status, pinned) = (operator.status().await?, operator.pinned().await?);
            ensure!(count(&status, "target") == 5 && status["pinned"] == json!(1), "{status} {pinned}");
            let first = pinned.pointer("/keys/0").context("none is pinned")?;
            ensure!(first["key"] == json!(open.payment), "{pinned}");
            ensure!(first["why"] == json!("a charge is under way"), "{pinned}");
            Ok(Some(()))
        })
        .await?;
        world.start(provider).await?;
        until_all_at(&operator, "target").await?;
        until_status(&client, &open.payment, "captured").await?;
        accepted.push(open);
        shop.settle(SETTLED).await?;
        none_is_pinned(&operator).await?;
        let findings = shop.check(accepted).await?;
        assert!(findings.holds(), "{findings}");
        Ok(())
    })
    .await;
}
