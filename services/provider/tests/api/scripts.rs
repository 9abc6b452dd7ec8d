//! Each scripted outcome, as a client meets it.

use std::time::{Duration, Instant};

use crate::client::{ANSWER, Client, Home};

async fn confirmable(client: &Client, method: &str) -> (String, String) {
    let path = client.intent("p-1", method, "automatic").await;
    let confirm = format!("{path}/confirm");
    (path, confirm)
}

#[tokio::test]
async fn a_declined_card_stays_declined() {
    let stand = Home::new().start().await;
    let client = &stand.client;
    let (path, confirm) = confirmable(client, "pm_card_declined").await;
    for (key, replayed) in [("k-1", false), ("k-1", true), ("k-2", false)] {
        let refused = client.post(&confirm, key, &[]).await;
        assert_eq!(refused.error(), (402, "card_error card_declined".into()));
        assert_eq!(refused.replayed, replayed);
        assert_eq!(refused.body["error"]["payment_intent"]["status"], "requires_payment_method");
    }
    let intent = client.get(&path).await;
    assert_eq!(intent.body["last_payment_error"]["decline_code"], "generic_decline");
    assert_eq!(client.movements().await, ["decline 1000", "decline 1000"]);
    assert_eq!(client.journal().await["charged"], serde_json::json!({}));
    stand.stop().await;
}

#[tokio::test]
async fn charged_without_an_answer_is_heard_of_under_the_same_key() {
    let stand = Home::new().start().await;
    let client = &stand.client;
    let (path, confirm) = confirmable(client, "pm_charged_no_answer").await;
    assert_eq!(client.post_in_vain(&confirm, "k-1", &[]).await, None);
    assert_eq!(client.get(&path).await.text("status"), "succeeded");
    let again = client.post(&confirm, "k-1", &[]).await;
    assert_eq!((again.status, again.replayed, again.text("status")), (200, true, "succeeded".into()));
    assert_eq!(client.movements().await, ["charge 1000"]);
    stand.stop().await;
}

#[tokio::test]
async fn not_charged_without_an_answer_is_charged_by_the_retry() {
    let home = Home::new();
    let stand = home.start().await;
    let (path, confirm) = confirmable(&stand.client, "pm_not_charged_no_answer").await;
    assert_eq!(stand.client.post_in_vain(&confirm, "k-1", &[]).await, None);
    assert_eq!(stand.client.get(&path).await.text("status"), "requires_confirmation");
    assert_eq!(stand.client.movements().await, [""; 0]);
    stand.stop().await;
    // That it was lost once outlives a restart.
    let stand = home.start().await;
    let again = stand.client.post(&confirm, "k-1", &[]).await;
    assert_eq!((again.replayed, again.text("status")), (false, "succeeded".into()));
    assert_eq!(stand.client.movements().await, ["charge 1000"]);
    stand.stop().await;
}

#[tokio::test]
async fn an_error_after_the_charge_is_repeated_and_the_object_tells_the_truth() {
    let stand = Home::new().start().await;
    let client = &stand.client;
    let (path, confirm) = confirmable(client, "pm_500_after_charge").await;
    for replayed in [false, true] {
        let failed = client.post(&confirm, "k-1", &[]).await;
        assert_eq!((failed.error(), failed.replayed), ((500, "api_error".into()), replayed));
    }
    assert_eq!(client.get(&path).await.text("status"), "succeeded");
    assert_eq!(client.movements().await, ["charge 1000"]);
    stand.stop().await;
}

#[tokio::test]
async fn a_late_charge_is_processing_until_it_is_made_even_across_a_restart() {
    let home = Home::new();
    let stand = home.start().await;
    let (path, confirm) = confirmable(&stand.client, "pm_charged_late").await;
    assert_eq!(stand.client.post_in_vain(&confirm, "k-1", &[]).await, None);
    assert_eq!(stand.client.get(&path).await.text("status"), "processing");
    assert_eq!(stand.client.post(&confirm, "k-1", &[]).await.error().0, 409, "its key is in flight");
    assert_eq!(stand.client.post(&format!("{path}/cancel"), "k-2", &[]).await.error().0, 400);
    assert_eq!(stand.client.movements().await, [""; 0]);
    stand.stop().await;

    let stand = home.start().await;
    settled(&stand.client, &path).await;
    let answer = stand.client.post(&confirm, "k-1", &[]).await;
    assert_eq!((answer.replayed, answer.text("status")), (true, "succeeded".into()));
    assert_eq!(stand.client.movements().await, ["charge 1000"]);
    stand.stop().await;
}

#[tokio::test]
async fn a_slow_card_takes_two_seconds() {
    let stand = Home::new().start().await;
    let (_, confirm) = confirmable(&stand.client, "pm_slow").await;
    let began = Instant::now();
    assert_eq!(stand.client.post(&confirm, "k-1", &[]).await.text("status"), "succeeded");
    assert!(began.elapsed() >= Duration::from_secs(2));
    stand.stop().await;
}

#[tokio::test]
async fn latency_delays_every_answer() {
    let stand = Home::new().with("PROVIDER_LATENCY", "150ms").start().await;
    let began = Instant::now();
    stand.client.get("payment_intents").await;
    assert!(began.elapsed() >= Duration::from_millis(150));
    stand.stop().await;
}

#[tokio::test]
async fn a_provider_that_forgets_its_keys_charges_twice() {
    let stand = Home::new().with("PROVIDER_IGNORE_IDEMPOTENCY", "true").start().await;
    let client = &stand.client;
    for (payment, method) in [("p-1", "pm_charged_no_answer"), ("p-2", "pm_500_after_charge")] {
        let path = client.intent(payment, method, "automatic").await;
        let confirm = format!("{path}/confirm");
        assert_eq!(client.post_in_vain(&confirm, "k-1", &[]).await, None);
        assert_eq!(
            client.get(&path).await.text("status"),
            "requires_confirmation",
            "the charge is forgotten"
        );
        assert_eq!(client.post(&confirm, "k-1", &[]).await.text("status"), "succeeded");
    }
    assert_eq!(client.journal().await["charged"], serde_json::json!({ "p-1": 2000, "p-2": 2000 }));
    stand.stop().await;
}

/// Asks until the intent is no longer processing; each question is an answer of the process.
async fn settled(client: &Client, path: &str) {
    let processing = async { while client.get(path).await.text("status") == "processing" {} };
    tokio::time::timeout(ANSWER, processing).await.expect("the late charge is made");
}
