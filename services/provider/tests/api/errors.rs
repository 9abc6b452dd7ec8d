//! Bad requests and idempotency keys, in Stripe's words.

use crate::client::Home;

#[tokio::test]
async fn bad_requests_are_named_and_change_nothing() {
    let stand = Home::new().start().await;
    let client = &stand.client;
    assert_eq!(
        client.get_without_key("payment_intents").await.error(),
        (401, "invalid_request_error".into())
    );
    let good = [("amount", "1000"), ("currency", "eur")];
    for (wrong, code) in [
        (("amount", "0"), "parameter_invalid"),
        (("colour", "red"), "parameter_unknown"),
        (("confirm", "true"), "parameter_invalid"),
        (("payment_method", "pm_gold"), "resource_missing"),
        (("capture_method", "later"), "parameter_invalid"),
    ] {
        let form = [good[0], good[1], wrong];
        let answer = client.post("payment_intents", "k", &form).await;
        assert_eq!(answer.error(), (400, format!("invalid_request_error {code}")), "{wrong:?}");
    }
    let missing = |code: &str| (400, format!("invalid_request_error {code}"));
    assert_eq!(client.post("payment_intents", "k", &good[..1]).await.error(), missing("parameter_missing"));
    let currency = [("amount", "1"), ("currency", "euros")];
    assert_eq!(client.post("payment_intents", "k", &currency).await.error(), missing("parameter_invalid"));
    let unknown = client.post("payment_intents/pi_0/confirm", "k", &[]).await;
    assert_eq!(unknown.error(), (404, "invalid_request_error resource_missing".into()));
    assert_eq!(
        client.get("refunds/re_0").await.error(),
        (404, "invalid_request_error resource_missing".into())
    );
    assert_eq!(client.get("nowhere").await.error(), (404, "invalid_request_error".into()));
    let large = "x".repeat(70_000);
    assert_eq!(client.post("payment_intents", "k", &[("amount", &large)]).await.error().0, 413);

    let bare = client.post("payment_intents", "k", &good).await;
    assert_eq!(bare.text("status"), "requires_payment_method", "the key is free: nothing was kept for it");
    let confirm = format!("payment_intents/{}/confirm", bare.text("id"));
    assert_eq!(client.post(&confirm, "k-2", &[]).await.error(), missing("parameter_missing"));
    let paid = client.post(&confirm, "k-3", &[("payment_method", "pm_card_visa")]).await;
    assert_eq!(paid.text("status"), "succeeded");
    stand.stop().await;
}

#[tokio::test]
async fn a_key_repeats_its_answer_and_takes_no_other_request() {
    let stand = Home::new().start().await;
    let client = &stand.client;
    let path = client.intent("p-1", "pm_card_visa", "automatic").await;
    let confirm = format!("{path}/confirm");
    let first = client.post(&confirm, "k-1", &[]).await;
    let again = client.post(&confirm, "k-1", &[]).await;
    assert_eq!((first.replayed, again.replayed), (false, true));
    assert_eq!((first.status, first.body), (again.status, again.body));
    let other = client.post(&confirm, "k-1", &[("payment_method", "pm_slow")]).await;
    assert_eq!(other.error(), (400, "idempotency_error".into()));
    let elsewhere = client.post(&format!("{path}/cancel"), "k-1", &[]).await;
    assert_eq!(elsewhere.error(), (400, "idempotency_error".into()));
    let fresh = client.post(&confirm, "k-2", &[]).await;
    assert_eq!(fresh.error(), (400, "invalid_request_error payment_intent_unexpected_state".into()));
    assert_eq!(client.movements().await, ["charge 1000"]);
    stand.stop().await;
}

#[tokio::test]
async fn a_key_in_flight_is_a_conflict() {
    let stand = Home::new().with("PROVIDER_LATE_BY", "1m").start().await;
    let client = &stand.client;
    let confirm = format!("{}/confirm", client.intent("p-1", "pm_charged_late", "automatic").await);
    assert_eq!(client.post_in_vain(&confirm, "k-1", &[]).await, None);
    let busy = client.post(&confirm, "k-1", &[]).await;
    assert_eq!(busy.error(), (409, "idempotency_error idempotency_key_in_use".into()));
    stand.stop().await;
}

#[tokio::test]
async fn of_two_confirmations_under_two_keys_one_charges() {
    let stand = Home::new().start().await;
    let client = &stand.client;
    let confirm = format!("{}/confirm", client.intent("p-1", "pm_slow", "automatic").await);
    let (one, two) = tokio::join!(client.post(&confirm, "k-1", &[]), client.post(&confirm, "k-2", &[]));
    let mut statuses = [one.status, two.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 400], "{one:?} {two:?}");
    assert_eq!(client.movements().await, ["charge 1000"]);
    stand.stop().await;
}
