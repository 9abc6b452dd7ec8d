//! The ordinary life of a payment.

use serde_json::json;

use crate::client::Home;

#[tokio::test]
async fn an_automatic_payment_is_charged_once_it_is_confirmed() {
    let stand = Home::new().start().await;
    let client = &stand.client;
    let path = client.intent("p-1", "pm_card_visa", "automatic").await;
    assert_eq!(client.movements().await, [""; 0], "creating moves nothing");

    let paid = client.post(&format!("{path}/confirm"), "confirm-1", &[]).await;
    assert_eq!((paid.text("status"), &paid.body["amount_received"]), ("succeeded".into(), &json!(1000)));
    assert_eq!(client.get(&path).await.body, paid.body);
    let journal = client.journal().await;
    let movement = &journal["movements"][0];
    assert_eq!(movement["kind"], "charge");
    assert_eq!(movement["id"], paid.body["latest_charge"]);
    assert_eq!(movement["idempotency_key"], "confirm-1");
    assert_eq!(movement["metadata"], json!({ "payment_id": "p-1" }));
    assert_eq!(journal["charged"], json!({ "p-1": 1000 }));
    stand.stop().await;
}

#[tokio::test]
async fn a_manual_payment_is_reserved_captured_in_part_and_refunded() {
    let stand = Home::new().start().await;
    let client = &stand.client;
    let path = client.intent("p-1", "pm_card_visa", "manual").await;
    let held = client.post(&format!("{path}/confirm"), "k-1", &[]).await;
    assert_eq!(
        (held.text("status"), &held.body["amount_capturable"]),
        ("requires_capture".into(), &json!(1000))
    );

    let capture = format!("{path}/capture");
    let over = client.post(&capture, "k-2", &[("amount_to_capture", "1001")]).await;
    assert_eq!(over.error(), (400, "invalid_request_error amount_too_large".into()));
    let command = [("amount_to_capture", "700"), ("metadata[command_id]", "c-7")];
    let taken = client.post(&capture, "k-3", &command).await;
    assert_eq!((taken.text("status"), &taken.body["amount_received"]), ("succeeded".into(), &json!(700)));
    assert_eq!(client.post(&capture, "k-4", &[]).await.error().0, 400, "captured once");

    let id = taken.text("id");
    let part = client.post("refunds", "k-5", &[("payment_intent", &id), ("amount", "300")]).await;
    assert_eq!((part.text("status"), &part.body["amount"]), ("succeeded".into(), &json!(300)));
    let over = client.post("refunds", "k-6", &[("payment_intent", &id), ("amount", "401")]).await;
    assert_eq!(over.error(), (400, "invalid_request_error amount_too_large".into()));
    assert_eq!(client.post("refunds", "k-7", &[("payment_intent", &id)]).await.body["amount"], 400);
    let none = client.post("refunds", "k-8", &[("payment_intent", &id)]).await;
    assert_eq!(none.error(), (400, "invalid_request_error charge_already_refunded".into()));

    assert_eq!(client.movements().await, ["authorization 1000", "capture 700", "refund 300", "refund 400"]);
    let journal = client.journal().await;
    assert_eq!(journal["movements"][1]["metadata"], json!({ "payment_id": "p-1", "command_id": "c-7" }));
    assert_eq!(journal["charged"], json!({ "p-1": 700 }));
    let refund = client.get(&format!("refunds/{}", part.text("id"))).await;
    assert_eq!(refund.body, part.body);
    let refunds = client.get(&format!("refunds?payment_intent={id}")).await;
    assert_eq!(refunds.body["data"].as_array().map(Vec::len), Some(2));
    stand.stop().await;
}

#[tokio::test]
async fn a_canceled_payment_releases_what_was_reserved() {
    let stand = Home::new().start().await;
    let client = &stand.client;
    let path = client.intent("p-1", "pm_card_visa", "manual").await;
    client.post(&format!("{path}/confirm"), "k-1", &[]).await;
    let ended = client.post(&format!("{path}/cancel"), "k-2", &[]).await;
    assert_eq!((ended.text("status"), &ended.body["amount_capturable"]), ("canceled".into(), &json!(0)));
    let late = client.post(&format!("{path}/capture"), "k-3", &[]).await;
    assert_eq!(late.error(), (400, "invalid_request_error payment_intent_unexpected_state".into()));
    assert_eq!(client.movements().await, ["authorization 1000", "cancel 1000"]);
    stand.stop().await;
}

#[tokio::test]
async fn intents_are_listed_newest_first_page_by_page() {
    let stand = Home::new().start().await;
    let client = &stand.client;
    let mut made = Vec::new();
    for number in 0..3 {
        made.push(client.intent(&format!("p-{number}"), "pm_card_visa", "automatic").await);
    }
    let page = client.get("payment_intents?limit=2").await;
    assert_eq!(page.body["has_more"], true);
    let ids: Vec<String> = page.body["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| format!("payment_intents/{}", it["id"].as_str().unwrap()))
        .collect();
    assert_eq!(ids, [made[2].clone(), made[1].clone()]);
    let last = made[1].trim_start_matches("payment_intents/");
    let rest = client.get(&format!("payment_intents?limit=2&starting_after={last}")).await;
    assert_eq!((&rest.body["has_more"], rest.body["data"].as_array().unwrap().len()), (&json!(false), 1));
    stand.stop().await;
}
