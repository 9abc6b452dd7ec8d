//! Search for payment intents by what the client wrote on them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{ANSWER, Client, Home};

/// Nothing is found.
const NONE: [Value; 0] = [];

async fn found(client: &Client, query: &str) -> Vec<Value> {
    let query: String = url::form_urlencoded::byte_serialize(query.as_bytes()).collect();
    client.listed(&format!("payment_intents/search?query={query}"), "id").await
}

fn id(path: &str) -> Value {
    path.trim_start_matches("payment_intents/").into()
}

#[tokio::test]
async fn intents_are_found_by_their_metadata_also_after_a_restart() {
    let home = Home::new();
    let stand = home.start().await;
    let first = stand.client.intent("p-1", "pm_card_visa", "manual").await;
    let other = stand.client.intent("p-2", "pm_card_visa", "manual").await;
    let path = format!("{first}/capture");
    stand.client.post(&format!("{first}/confirm"), "k-1", &[]).await;
    stand.client.post(&path, "k-2", &[("metadata[command_id]", "c-1")]).await;
    stand.stop().await;

    let stand = home.start().await;
    let client = &stand.client;
    assert_eq!(found(client, "metadata['payment_id']:'p-1'").await, [id(&first)]);
    assert_eq!(
        found(client, "metadata['command_id']:'c-1' AND metadata['payment_id']:'p-1'").await,
        [id(&first)]
    );
    assert_eq!(found(client, "metadata['command_id']:'c-1' AND metadata['payment_id']:'p-2'").await, NONE);
    assert_eq!(
        found(client, r#"metadata["payment_id"]:"p-2" AND status:"requires_confirmation""#).await,
        [id(&other)]
    );
    assert_eq!(found(client, "metadata['tenant']:'t-1'").await, NONE);
    assert_eq!(found(client, "status:'succeeded'").await, [id(&first)]);
    stand.stop().await;
}

#[tokio::test]
async fn what_is_found_comes_page_by_page() {
    let stand = Home::new().start().await;
    let client = &stand.client;
    let form = [("amount", "5"), ("currency", "eur"), ("metadata[payment_id]", "p-1")];
    for key in ["k-1", "k-2", "k-3"] {
        client.post("payment_intents", key, &form).await;
    }
    let search = "payment_intents/search?limit=2&query=metadata%5B'payment_id'%5D:'p-1'";
    let first = client.get(search).await.body;
    assert_eq!((&first["object"], &first["has_more"]), (&json!("search_result"), &json!(true)));
    let next = first["next_page"].as_str().expect("a next page");
    let rest = client.get(&format!("{search}&page={next}")).await.body;
    assert_eq!((&rest["has_more"], &rest["next_page"]), (&json!(false), &Value::Null));
    let ids = [&first["data"][0]["id"], &first["data"][1]["id"], &rest["data"][0]["id"]];
    let mut sorted = ids.map(|id| id.as_str().expect("an id"));
    sorted.sort_unstable_by(|one, two| two.cmp(one));
    assert_eq!(ids, sorted, "newest first");
    stand.stop().await;
}

#[tokio::test]
async fn search_lags_behind_while_the_list_does_not() {
    let stand = Home::new().with("PROVIDER_SEARCH_LAG", "700ms").start().await;
    let client = &stand.client;
    let made = Instant::now();
    let path = client.intent("p-1", "pm_card_visa", "automatic").await;
    assert_eq!(client.listed("payment_intents", "id").await, [id(&path)]);
    let query = "metadata['payment_id']:'p-1'";
    assert_eq!(found(client, query).await, NONE);
    while found(client, query).await != [id(&path)] {
        assert!(made.elapsed() < ANSWER, "it is found in the end");
    }
    assert!(made.elapsed() >= Duration::from_millis(690), "{:?}", made.elapsed());
    stand.stop().await;
}
