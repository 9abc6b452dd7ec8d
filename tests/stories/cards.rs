//! Card numbers: refused by their own code wherever they stand in a request, and afterwards nowhere to be found.

mod calls;
mod outputs;
mod requests;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::{Binaries, Shop, Spec, story};

use self::outputs::{Collector, Outputs};
use crate::orders::order;
use crate::webhooks::{Sender, event, until_notice};

const SOON: Duration = Duration::from_secs(30);

/// A number that schemes publish for tests.
const CARD: &str = "4111111111111111";
/// One digit further: no card's, so it is let in.
const MARKER: &str = "4111111111111112";

/// Everything is logged and every span is kept: if a process lets something slip, this is how it shows.
fn talkative(mut spec: Spec, collector: &Collector) -> Spec {
    spec.env.push(("RUST_LOG".into(), "trace".into()));
    spec.env.push(("OTEL_EXPORTER_OTLP_ENDPOINT".into(), collector.address()));
    spec
}

/// The digits as a client may write them.
fn groups_of_four(digits: &str, between: &str) -> String {
    digits.as_bytes().chunks(4).map(String::from_utf8_lossy).collect::<Vec<_>>().join(between)
}

/// The first digit as a path or a query may write it.
fn in_percent(digits: &str) -> String {
    digits.replacen('4', "%34", 1)
}

/// The first digit as JSON may write it.
fn escaped(digits: &str) -> String {
    digits.replacen('4', "\\u0034", 1)
}

/// The digits of another script.
fn wide(digits: &str) -> String {
    digits.chars().filter_map(|it| char::from_u32(0xff10 + it.to_digit(10)?)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_card_number_is_refused_everywhere_and_found_nowhere() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        let collector = Collector::start().await?;
        shop.migrate(&["acme"]).await?;
        shop.start_provider(&[("RUST_LOG", "trace")]).await?;
        shop.start_ready(talkative(shop.running_monolith("monolith", "all"), &collector)).await?;
        shop.start_ready(talkative(shop.running_service("payments-service", "all"), &collector)).await?;
        shop.operator()?.follow().await?;

        let before = rows(&shop).await?;
        let over_http = requests::refused(&shop, world).await?;
        let over_grpc = calls::refused(&shop).await?;
        println!("{over_http} HTTP requests and {over_grpc} gRPC calls with a card number were refused");
        assert!(over_http > 100 && over_grpc > 30, "{over_http} {over_grpc}");
        assert_eq!(rows(&shop).await?, before, "a refused request changes no row");

        // The same places with a number that is no card's: it shows that whoever looks would find one.
        let payment = let_in(&shop).await?;
        shop.settle(SOON).await?;
        world.delivered(SOON).await?;
        let metrics = outputs::metrics(world).await?;
        world.stop("monolith").await?;
        world.stop("payments-service").await?;
        let outputs = Outputs::gather(&shop, world, metrics, collector.stop().await?).await?;

        assert_eq!(outputs.places_of_digits(CARD), [] as [&str; 0]);
        let found = outputs.places_of_digits(MARKER).join(" ");
        for place in [
            "monolith/orders.orders",
            "monolith/outbox.event",
            "service/payments.payment",
            "topic/payments.v1",
            "monolith.log",
            "spans",
        ] {
            assert!(found.contains(place), "the control is not found in {place}, only in {found}");
        }
        for (place, text) in [
            ("journal.jsonl", payment.as_str()),
            ("monolith.log", "TRACE"),
            ("payments-service.log", "TRACE"),
            ("metrics/monolith", "/v1/orders"),
        ] {
            assert!(outputs.has(place, text), "{place} has no {text}");
        }
        Ok(())
    })
    .await;
}

/// Rows of the tables that requests change, in both databases.
async fn rows(shop: &Shop<'_>) -> Result<Vec<i64>> {
    let sql = "select (select count(*) from payments.payment) + (select count(*) from payments.intent)
        + (select count(*) from payments.idempotency)
        + (select count(*) from outbox.head where key not like 'heartbeat.%')";
    let orders = "select count(*) from orders.orders";
    Ok(vec![
        sqlx::query_scalar(sql).fetch_one(&shop.source).await?,
        sqlx::query_scalar(orders).fetch_one(&shop.source).await?,
        sqlx::query_scalar(sql).fetch_one(&shop.target).await?,
    ])
}

/// Orders with the marker as key, payment method and trace, and one that is charged, whose payment is returned. The marker is in a
/// webhook too, of which the log must tell.
async fn let_in(shop: &Shop<'_>) -> Result<String> {
    let client = shop.client("acme")?;
    let mut body = order(&client, "pm_card_visa", "automatic").await?;
    let good = client.post("/v1/orders", "good", &body).await?;
    body["payment_method"] = json!(format!("pm_{MARKER}"));
    let request = client.request(reqwest::Method::POST, "/v1/orders");
    let request = request.header("idempotency-key", groups_of_four(MARKER, "-"));
    let request = request.header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let answer = request.header("tracestate", format!("shop={MARKER}")).json(&body).send().await?;
    ensure!(answer.status() == 201, "{} {}", answer.status(), answer.text().await?);
    let payment = good.body["payment_id"].as_str().context("an order has a payment")?;
    let surprise = format!("evt_{MARKER}");
    Sender::new(shop).taken(&event(&surprise, "refund.created", payment, &format!("re_{MARKER}"))).await?;
    until_notice(shop, &surprise, "surprise").await?;
    Ok(payment.to_owned())
}
