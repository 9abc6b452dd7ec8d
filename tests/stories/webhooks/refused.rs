//! Bad webhooks: each is refused by its own code and changes nothing.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::{Binaries, Shop, story};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;
use webhooks::sign;

use super::SOON;
use super::sender::{Sender, event, now};

/// Rows of the tables that a webhook could reach.
async fn rows(shop: &Shop<'_>) -> Result<i64> {
    let sql = "select (select count(*) from webhooks.notice) + (select count(*) from payments.payment)
                      + (select count(*) from payments.intent) + (select count(*) from outbox.event)";
    Ok(sqlx::query_scalar(sql).fetch_one(&shop.source).await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_webhooks_are_refused_by_name_and_their_bodies_are_in_no_log() {
    const MARK: &str = "a-word-that-stands-in-each-body";
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        shop.migrate(&["acme"]).await?;
        shop.start_monolith("monolith", "web,inbox,relay").await?;
        let sender = Sender::new(&shop);
        let payment = Uuid::now_v7().to_string();
        let mut good = event("evt_1", "payment_intent.succeeded", &payment, MARK);
        // Over the limit of all other bodies, and with what looks like a card number: nothing but the signature counts.
        good["padding"] = json!("4242424242424242 ".repeat(12_000));
        let body = good.to_string();
        assert!((64 * 1024..256 * 1024).contains(&body.len()), "{}", body.len());
        sender.taken(&good).await?;
        sender.taken(&good).await?;
        let before = rows(&shop).await?;

        let signed = |minutes: i64, body: &str| {
            sign(shop.webhook_secret(), now() + time::Duration::minutes(minutes), body.as_bytes())
        };
        let spaced = serde_json::to_string_pretty(&good)?;
        let mut other = good.clone();
        other["data"]["object"]["status"] = json!("canceled");
        let other = other.to_string();
        for (signature, body, status, code) in [
            ("t=1,v1=00".to_owned(), &body, 400, "webhook-signature-malformed"),
            (format!("t=1,{}", signed(0, &body)), &body, 400, "webhook-timestamps"),
            (signed(-6, &body), &body, 400, "webhook-stale"),
            (signed(6, &body), &body, 400, "webhook-from-the-future"),
            (signed(0, &body), &spaced, 400, "webhook-signature-wrong"),
            (signed(0, MARK), &MARK.to_owned(), 400, "webhook-not-json"),
            (signed(0, "[]"), &"[]".to_owned(), 400, "webhook-not-an-event"),
            (signed(0, &other), &other, 409, "webhook-id-reused"),
        ] {
            assert_eq!(sender.post(&signature, body.clone()).await?, (status, code.to_owned()), "{code}");
        }
        let unsigned = sender.http.post(&sender.url).body(body.clone()).send().await?;
        assert_eq!(unsigned.status(), 400);
        assert!(unsigned.text().await?.contains("/problems/webhook-unsigned"));
        assert!(large(&shop, &signed(0, &body)).await?.starts_with("HTTP/1.1 413 "));
        assert_eq!(rows(&shop).await?, before);

        for (name, _, log) in world.processes().await {
            let text = std::fs::read_to_string(log)?;
            ensure!(!text.contains(MARK) && !text.contains("42424242"), "{name} logs bodies");
            ensure!(text.contains("a webhook was refused"), "{name} says that it refused some");
        }
        Ok(())
    })
    .await;
}

/// The answer to 5 MB, of which only the first bytes are ever sent: nobody waits for the rest.
async fn large(shop: &Shop<'_>, signature: &str) -> Result<String> {
    let address = format!("127.0.0.1:{}", shop.ports.http.number());
    let mut stream = TcpStream::connect(&address).await?;
    let head = format!(
        "POST /webhooks/provider HTTP/1.1\r\nhost: {address}\r\nstripe-signature: {signature}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{{",
        5 * 1024 * 1024
    );
    stream.write_all(head.as_bytes()).await?;
    let mut answer = vec![0; 4096];
    let read = tokio::time::timeout(SOON, stream.read(&mut answer)).await.context("no answer to 5 MB")??;
    Ok(String::from_utf8_lossy(&answer[..read]).into_owned())
}
