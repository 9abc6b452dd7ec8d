//! Webhooks as a receiver meets them: signed, repeated until they are taken, in no order, and never lost.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{ANSWER, Client, Home};
use crate::process::spawn;
use crate::receiver::{Receiver, SECRET};

fn home(receiver: &Receiver) -> Home {
    let home = Home::new().with("PROVIDER_WEBHOOK_URL", &receiver.url());
    home.with("PROVIDER_WEBHOOK_SECRET", SECRET).with("PROVIDER_WEBHOOK_RETRY", "50ms")
}

/// Waits until nothing waits to be delivered.
async fn all_delivered(client: &Client) {
    let waiting = async { while client.admin("webhooks").await["waiting"] != 0 {} };
    tokio::time::timeout(ANSWER, waiting).await.expect("everything is delivered");
}

fn path(id: &str) -> String {
    format!("payment_intents/{id}")
}

#[tokio::test]
async fn every_step_is_told_with_its_object_and_signed() {
    let receiver = Receiver::start().await;
    let stand = home(&receiver).start().await;
    let client = &stand.client;
    let paid = client.paid("p-1").await;
    let refund = [("payment_intent", paid.as_str()), ("amount", "300"), ("metadata[command_id]", "c-1")];
    let refund = client.post("refunds", "k-1", &refund).await;
    let held = client.intent("p-2", "pm_card_visa", "manual").await;
    client.post(&format!("{held}/confirm"), "k-2", &[]).await;
    client.post(&format!("{held}/cancel"), "k-3", &[]).await;
    let refused = client.intent("p-3", "pm_card_declined", "automatic").await;
    client.post(&format!("{refused}/confirm"), "k-4", &[]).await;

    client.order("refund_failure", &json!({ "refund": refund.text("id") })).await;

    let seen = receiver.deliveries(7).await;
    let told = |kind: &str| -> Value {
        let found: Vec<_> = seen.iter().filter(|delivery| delivery.text("type") == kind).collect();
        assert_eq!(found.len(), 1, "{kind} in {seen:?}");
        found[0].signed_at();
        found[0].event()
    };
    let event = told("payment_intent.succeeded");
    assert_eq!(event["data"]["object"], client.get(&path(&paid)).await.body);
    assert_eq!(event["request"]["idempotency_key"], "confirm-p-1");
    assert_eq!((&event["object"], &event["livemode"]), (&json!("event"), &json!(false)));
    assert!(event["id"].as_str().expect("an id").starts_with("evt_"));
    let event = told("refund.created");
    assert_eq!(event["data"]["object"], refund.body);
    assert_eq!(event["data"]["object"]["metadata"], json!({ "command_id": "c-1" }));
    // The object is as it was then, not as it is now.
    let event = told("payment_intent.amount_capturable_updated");
    assert_eq!(event["data"]["object"]["status"], "requires_capture");
    assert_eq!(told("payment_intent.canceled")["data"]["object"]["amount_capturable"], 0);
    let event = told("payment_intent.payment_failed");
    assert_eq!(event["data"]["object"]["last_payment_error"]["code"], "card_declined");
    let (updated, failed) = (told("refund.updated"), told("refund.failed"));
    assert_eq!(updated["data"], failed["data"]);
    assert_eq!(failed["data"]["object"]["failure_reason"], "lost_or_stolen_card");
    all_delivered(client).await;
    assert_eq!(receiver.deliveries(7).await.len(), 7, "once each");
    stand.stop().await;
}

#[tokio::test]
async fn an_event_that_is_not_taken_comes_again_signed_anew_until_it_is() {
    let receiver = Receiver::start().await;
    receiver.answer_next(&[500, 302, 400]);
    let stand = home(&receiver).start().await;
    let began = Instant::now();
    stand.client.paid("p-1").await;
    let seen = receiver.deliveries(4).await;
    // 50, 100 and 200 ms lie between the attempts.
    assert!(began.elapsed() >= Duration::from_millis(350), "{:?}", began.elapsed());
    for delivery in &seen {
        delivery.signed_at();
        assert_eq!(delivery.raw, seen[0].raw, "the same bytes each time");
    }
    all_delivered(&stand.client).await;
    assert_eq!(stand.client.admin("webhooks").await, json!({ "waiting": 0, "given_up": 0 }));
    stand.stop().await;
}

#[tokio::test]
async fn an_event_that_nobody_takes_is_given_up_and_stays_so() {
    let receiver = Receiver::start().await;
    receiver.answer_next(&[500; 3]);
    let home = home(&receiver).with("PROVIDER_WEBHOOK_ATTEMPTS", "3");
    let stand = home.start().await;
    stand.client.paid("p-1").await;
    receiver.deliveries(3).await;
    all_delivered(&stand.client).await;
    assert_eq!(stand.client.admin("webhooks").await, json!({ "waiting": 0, "given_up": 1 }));
    stand.stop().await;

    let stand = home.start().await;
    stand.client.paid("p-2").await;
    let seen = receiver.deliveries(4).await;
    assert_eq!(seen[3].event()["data"]["object"]["metadata"]["payment_id"], "p-2");
    stand.stop().await;
}

#[tokio::test]
async fn events_are_held_doubled_and_reversed_as_it_is_told() {
    let receiver = Receiver::start().await;
    let stand = home(&receiver).start().await;
    let client = &stand.client;
    client.order("webhooks", &json!({ "hold_ms": 3_600_000, "reverse": true, "duplicate": 1 })).await;
    let held = client.intent("p-1", "pm_card_visa", "manual").await;
    client.post(&format!("{held}/confirm"), "k-1", &[]).await;
    let taken = client.post(&format!("{held}/capture"), "k-2", &[]).await;
    client.post("refunds", "k-3", &[("payment_intent", &taken.text("id"))]).await;
    assert_eq!(client.admin("webhooks").await["waiting"], 3);
    assert_eq!(receiver.types(0).await.len(), 0, "they are held");

    client.order("webhooks", &json!({ "reverse": true })).await;
    all_delivered(client).await;
    let newest_first =
        ["refund.created", "payment_intent.succeeded", "payment_intent.amount_capturable_updated"];
    let doubled = newest_first.map(|kind| [kind, kind]).concat();
    let mut seen = receiver.types(6).await;
    assert_eq!(seen.len(), 6, "{seen:?}");
    assert_eq!(seen[0], newest_first[0]);
    seen.sort();
    assert_eq!(seen, {
        let mut all = doubled;
        all.sort_unstable();
        all
    });

    client.order("webhooks", &json!({})).await;
    client.paid("p-2").await;
    all_delivered(client).await;
    assert_eq!(receiver.types(7).await.len(), 7, "as it should be again");
    for wrong in [json!({ "duplicate": 11 }), json!({ "hold_ms": -1 }), json!({ "shuffle": true })] {
        assert_eq!(client.order("webhooks", &wrong).await.status, 400, "{wrong}");
    }
    stand.stop().await;
}

#[tokio::test]
async fn events_of_a_killed_provider_come_after_its_restart() {
    let receiver = Receiver::start().await;
    let home = home(&receiver);
    let address = receiver.address;
    drop(receiver);
    // Nobody listens while 20 payments are made, and then the provider is killed.
    let (mut child, client) = spawn(&home).await;
    let mut paid = BTreeSet::new();
    for number in 0..20 {
        paid.insert(client.paid(&format!("p-{number}")).await);
    }
    child.kill().await.expect("killed");

    let receiver = Receiver::at(address).await;
    let (mut child, client) = spawn(&home).await;
    let seen = receiver.deliveries(20).await;
    all_delivered(&client).await;
    let told = |delivery: &crate::receiver::Delivery| {
        delivery.event()["data"]["object"]["id"].as_str().map(str::to_owned)
    };
    assert_eq!(seen.iter().filter_map(told).collect::<BTreeSet<_>>(), paid);
    let ids: BTreeSet<String> = seen.iter().map(|delivery| delivery.text("id")).collect();
    child.kill().await.expect("killed");

    // What was delivered is in the journal too: a third start has nothing to tell.
    let (mut child, client) = spawn(&home).await;
    all_delivered(&client).await;
    client.paid("p-20").await;
    all_delivered(&client).await;
    let after: BTreeSet<String> =
        receiver.deliveries(21).await.iter().map(|delivery| delivery.text("id")).collect();
    assert_eq!((ids.len(), after.len()), (20, 21), "an event keeps its id");
    child.kill().await.expect("killed");
}

#[tokio::test]
async fn webhooks_need_a_secret() {
    let mut home = Home::new();
    home.settings.push(("PROVIDER_WEBHOOK_URL", "http://127.0.0.1:1/hook".into()));
    let problem = |home: &Home| home.config().expect_err("no start").to_string();
    assert!(problem(&home).contains("PROVIDER_WEBHOOK_SECRET: not a webhook secret"), "{}", problem(&home));
    home.settings.push(("PROVIDER_WEBHOOK_SECRET", "hunter2".into()));
    assert!(
        problem(&home).contains("PROVIDER_WEBHOOK_SECRET=***: not a webhook secret"),
        "{}",
        problem(&home)
    );
}
