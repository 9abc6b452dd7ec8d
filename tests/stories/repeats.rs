//! A command sent again under its key gets the answer that it got, whatever happened since, through both homes.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use sqlx::PgPool;
use tests::load::Client;
use tests::{Binaries, Shop, story};

use crate::grpc::born;

const SOON: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_sent_again_gets_its_first_answer_and_the_audit_tells_it_once() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        shop.start_all(&["acme"], &[]).await?;
        let (client, operator) = (shop.client("acme")?, shop.operator()?);
        let at_source = born(&client, "source", "automatic", "captured").await?;
        operator.follow().await?;
        operator.ramp(100).await?;
        let at_target = born(&client, "target", "automatic", "captured").await?;
        for (payment, home, books) in
            [(at_source, "source", &shop.source), (at_target, "target", &shop.target)]
        {
            let path = format!("/v1/payments/{payment}/refunds");
            let hundred = json!({ "amount_minor": 100, "reason": "one of two came" });
            let first = refund(&client, &path, "k", &hundred).await?;
            assert_eq!((first.0, &first.1["refunded_minor"]), (200, &json!(100)), "{home}");
            let other = refund(&client, &path, "other", &json!({ "amount_minor": 50 })).await?;
            assert_eq!((other.0, &other.1["refunded_minor"]), (200, &json!(150)), "{home}");
            // For whatever reason it is sent again: it is the same command.
            assert_eq!(refund(&client, &path, "k", &json!({ "amount_minor": 100 })).await?, first, "{home}");
            assert_eq!(refund(&client, &path, "k", &json!({ "amount_minor": 101 })).await?.0, 422, "{home}");
            let unfit = json!({ "amount_minor": 1, "reason": "x".repeat(256) });
            let refused = refund(&client, &path, "long", &unfit).await?;
            assert_eq!((refused.0, &refused.1["errors"][0]["pointer"]), (422, &json!("/reason")), "{home}");

            let why = || Some("one of two came".to_owned());
            let told = [("refund requested", why()), ("refund done", why())];
            let more = [("refund requested", None), ("refund done", None)];
            let told = told.into_iter().chain(more).map(|(action, why)| (action.to_owned(), why));
            assert_eq!(audit(books, &payment, home).await?, told.collect::<Vec<_>>(), "{home}");
        }
        shop.settle(SOON).await
    })
    .await;
}

async fn refund(client: &Client, path: &str, key: &str, body: &Value) -> Result<(u16, Value)> {
    let answer = client.post(path, key, body).await?;
    Ok((answer.status, answer.body))
}

/// Action and reason of what the token's subject did to a payment through a home.
async fn audit(home: &PgPool, payment: &str, name: &str) -> Result<Vec<(String, Option<String>)>> {
    let sql = "select action, reason from payments.audit
               where payment_id = $1::text::uuid and actor = 'tests' and home = $2 order by id";
    Ok(sqlx::query_as(sql).bind(payment).bind(name).fetch_all(home).await?)
}
