//! The settlement list: one line for each movement of money, in pages, and what it says when it is told to lie.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{ANSWER, Client, Home};

const LIST: &str = "balance_transactions";

/// One charge of 1,000, one authorization of which 700 are captured, and a refund of 300.
async fn trade(client: &Client) -> (String, String) {
    let paid = client.paid("p-1").await;
    let held = client.intent("p-2", "pm_card_visa", "manual").await;
    client.post(&format!("{held}/confirm"), "k-1", &[]).await;
    client.post(&format!("{held}/capture"), "k-2", &[("amount_to_capture", "700")]).await;
    let refund = [("payment_intent", paid.as_str()), ("amount", "300"), ("metadata[payment_id]", "p-1")];
    client.post("refunds", "k-3", &refund).await;
    (paid, held.trim_start_matches("payment_intents/").to_owned())
}

#[tokio::test]
async fn every_movement_of_money_has_a_line_with_its_source() {
    let home = Home::new();
    let stand = home.start().await;
    let (paid, held) = trade(&stand.client).await;
    let before = stand.client.get(&format!("{LIST}?expand[]=data.source")).await.body;
    stand.stop().await;
    let stand = home.start().await;
    let client = &stand.client;
    assert_eq!(
        client.get(&format!("{LIST}?expand%5B%5D=data.source")).await.body,
        before,
        "a restart changes nothing"
    );

    let lines = before["data"].as_array().expect("lines");
    let told: Vec<_> = lines
        .iter()
        .map(|line| {
            (&line["type"], &line["amount"], &line["source"]["object"], &line["source"]["payment_intent"])
        })
        .collect();
    let (charge, refund) = (json!("charge"), json!("refund"));
    assert_eq!(
        told,
        [
            (&refund, &json!(-300), &refund, &json!(paid)),
            (&charge, &json!(700), &charge, &json!(held)),
            (&charge, &json!(1000), &charge, &json!(paid)),
        ]
    );
    assert_eq!(lines[0]["source"]["metadata"], json!({ "payment_id": "p-1" }));
    assert_eq!(
        (&lines[1]["source"]["amount"], &lines[1]["source"]["amount_captured"]),
        (&json!(1000), &json!(700))
    );
    assert_eq!(
        (&lines[2]["net"], &lines[2]["currency"], &lines[2]["status"]),
        (&json!(1000), &json!("eur"), &json!("available"))
    );

    let plain = client.listed(LIST, "source").await;
    assert_eq!(plain[2], lines[2]["source"]["id"], "not expanded, the source is an id");
    let one =
        client.get(&format!("{LIST}/{}?expand[]=source", lines[1]["id"].as_str().expect("an id"))).await;
    assert_eq!(one.body, lines[1]);
    assert_eq!(client.get(&format!("{LIST}/txn_0")).await.error().0, 404);
    stand.stop().await;
}

#[tokio::test]
async fn the_list_is_read_page_by_page_within_a_time() {
    let stand = Home::new().start().await;
    let client = &stand.client;
    trade(client).await;
    let all = client.get(LIST).await.body["data"].clone();
    let mut read = Vec::new();
    let mut after = String::new();
    loop {
        let page = client.get(&format!("{LIST}?limit=1{after}")).await.body;
        let line = page["data"][0].clone();
        after = format!("&starting_after={}", line["id"].as_str().expect("an id"));
        read.push(line);
        if page["has_more"] == false {
            break;
        }
    }
    assert_eq!(Value::from(read), all);

    let created = |at: usize| all[at]["created"].as_i64().expect("seconds");
    let (first, last) = (created(2), created(0));
    let within = |from: i64, until: i64| format!("{LIST}?created[gte]={from}&created[lt]={until}");
    assert_eq!(client.listed(&within(first, last + 1), "id").await.len(), 3);
    assert_eq!(client.listed(&within(last + 1, last + 9), "id").await.len(), 0);
    assert_eq!(client.listed(&within(first - 9, first), "id").await.len(), 0);
    assert_eq!(client.listed(&format!("{LIST}?created[gt]={last}"), "id").await.len(), 0);
    assert_eq!(
        client.listed(&format!("{LIST}?created[lte]={last}&type=refund"), "amount").await,
        [json!(-300)]
    );
    stand.stop().await;
}

#[tokio::test]
async fn the_list_hides_alters_and_delays_as_it_is_told_while_the_journal_says_the_truth() {
    let home = Home::new();
    let stand = home.start().await;
    let client = &stand.client;
    let (paid, held) = trade(client).await;
    let ids = client.listed(LIST, "id").await;
    let told = client.order("settlements", &json!({ "hide": [ids[0]], "alter": { &held: -50 } })).await;
    assert_eq!(told.status, 200, "{told:?}");
    assert_eq!(client.listed(LIST, "amount").await, [650, 1000]);
    client
        .order(
            "settlements",
            &json!({ "hide": [held], "alter": { &paid: 1, ids[0].as_str().expect("an id"): 2 } }),
        )
        .await;
    assert_eq!(client.listed(LIST, "amount").await, [-298, 1001]);
    stand.stop().await;

    let stand = home.start().await;
    let client = &stand.client;
    assert_eq!(client.listed(LIST, "amount").await, [-298, 1001], "a restart goes on with it");
    assert_eq!(client.movements().await, ["charge 1000", "authorization 1000", "capture 700", "refund 300"]);
    assert_eq!(client.order("settlements", &json!({ "hidden": [] })).await.error().0, 400);
    client.order("settlements", &json!({})).await;
    assert_eq!(client.listed(LIST, "amount").await, [-300, 700, 1000]);

    client.order("settlements", &json!({ "delay_s": 2 })).await;
    let began = Instant::now();
    client.paid("p-3").await;
    while client.listed(LIST, "amount").await.len() < 4 {
        assert!(began.elapsed() < ANSWER, "it shows in the end");
    }
    assert!(began.elapsed() >= Duration::from_millis(1_900), "{:?}", began.elapsed());
    stand.stop().await;
}
