//! Bad requests and idempotency keys, in Stripe's words.

use std::time::{Duration, Instant};

use crate::client::{ANSWER, Home};

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
async fn a_key_is_as_new_once_its_lifetime_is_over_also_after_a_restart() {
    let home = Home::new().with("PROVIDER_KEY_LIFETIME", "1500ms");
    let stand = home.start().await;
    let id = stand.client.paid("p-1").await;
    let form = [("payment_intent", id.as_str()), ("amount", "100")];
    let first = stand.client.post("refunds", "k-1", &form).await;
    let used = Instant::now();
    assert!(stand.client.post("refunds", "k-1", &form).await.replayed);
    stand.stop().await;

    let stand = home.start().await;
    let client = &stand.client;
    let again = loop {
        let again = client.post("refunds", "k-1", &form).await;
        if !again.replayed {
            break again;
        }
        assert_eq!(again.body, first.body);
        assert!(used.elapsed() < ANSWER, "the key ends");
    };
    assert!(used.elapsed() >= Duration::from_millis(1_400), "{:?}", used.elapsed());
    assert_ne!(
        again.body["id"], first.body["id"],
        "the request was done again: that is what an expired key means"
    );
    assert_eq!(client.movements().await, ["charge 1000", "refund 100", "refund 100"]);
    stand.stop().await;
}

#[tokio::test]
async fn a_version_is_a_date_and_is_told_back() {
    let stand = Home::new().start().await;
    for version in ["2022-11-15", "2025-03-31.basil"] {
        assert_eq!(stand.client.version(version).await, (200, Some(version.to_owned())));
    }
    assert_eq!(stand.client.version("newest").await, (400, None));
    stand.stop().await;
}

#[tokio::test]
async fn a_refused_state_comes_with_the_intent_and_lists_refuse_what_they_do_not_know() {
    let stand = Home::new().start().await;
    let client = &stand.client;
    let id = client.paid("p-1").await;
    let refused = client.post(&format!("payment_intents/{id}/cancel"), "k-1", &[]).await;
    assert_eq!(refused.error(), (400, "invalid_request_error payment_intent_unexpected_state".into()));
    let error = &refused.body["error"];
    assert_eq!(
        (&error["payment_intent"]["id"], &error["payment_intent"]["status"]),
        (&id.into(), &"succeeded".into())
    );
    assert_eq!(error["doc_url"], "https://stripe.com/docs/error-codes/payment-intent-unexpected-state");
    for (path, code) in [
        ("refunds?limit=0", "parameter_invalid_integer"),
        ("refunds?limit=101", "parameter_invalid_integer"),
        ("payment_intents?customer=cus_1", "parameter_unknown"),
        ("balance_transactions?created[gte]=yesterday", "parameter_invalid_integer"),
        ("balance_transactions?expand[]=data.customer", "parameter_invalid"),
        ("balance_transactions?starting_after=txn_0", "resource_missing"),
        ("payment_intents/search", "parameter_missing"),
        ("payment_intents/search?query=amount>5", "parameter_invalid"),
        ("payment_intents?metadata[payment_id]=p-1", "parameter_unknown"),
    ] {
        assert_eq!(client.get(path).await.error(), (400, format!("invalid_request_error {code}")), "{path}");
    }
    stand.stop().await;
}

#[tokio::test]
async fn a_query_that_an_object_or_a_post_does_not_know_is_refused_and_does_nothing() {
    let stand = Home::new().start().await;
    let client = &stand.client;
    let unknown = (400, "invalid_request_error parameter_unknown".to_owned());
    let path = client.intent("p-1", "pm_card_visa", "manual").await;
    for step in ["confirm", "capture", "cancel"] {
        let stray = format!("{path}/{step}?amount_to_capture=100");
        assert_eq!(client.post(&stray, "k-1", &[]).await.error(), unknown, "{stray}");
    }
    let good = [("amount", "1000"), ("currency", "eur")];
    assert_eq!(client.post("payment_intents?metadata[a]=b", "k-1", &good).await.error(), unknown);

    let id = client.paid("p-2").await;
    let all = [("payment_intent", id.as_str())];
    assert_eq!(client.post("refunds?amount=100", "k-1", &all).await.error(), unknown);
    assert_eq!(client.movements().await, ["charge 1000"], "above all nothing went back");
    // Asked as it should be, under the same key: nothing was kept for it.
    let refund = client.post("refunds", "k-1", &all).await;
    assert_eq!((refund.status, refund.replayed), (200, false), "{refund:?}");
    let refund = format!("refunds/{}", refund.text("id"));
    for object in [path, refund] {
        for query in ["expand[]=latest_charge", "metadata[payment_id]=p-1"] {
            let stray = format!("{object}?{query}");
            assert_eq!(client.get(&stray).await.error(), unknown, "{stray}");
        }
        assert_eq!(client.get(&object).await.status, 200, "{object}");
    }
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
