//! What running processes say about themselves is true, and what the documentation and the alerts name is there.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chassis::listening::Listening;
use chassis::{Telemetry, server};
use outbox::memory::{Memory, Outage};
use outbox::{Metrics, Relay, RelayOptions, quarantine};
use serde_json::json;
use sqlx::PgPool;
use tests::checker::Ended;
use tests::load::Client;
use tests::{Binaries, Shop, story, until};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::migration::until_status;
use crate::notes::{self, NOTES, Noted, publish, until_delivered};
use crate::orders::{order, place};

const SOON: Duration = Duration::from_secs(30);
/// One charge is ten seconds late, and asked for again at growing pauses.
const SETTLED: Duration = Duration::from_secs(60);
/// Three intervals of a heartbeat, and as long for all else.
const SILENT: Duration = Duration::from_secs(60);
/// What shows only once it has happened, and does not happen in a healthy shop; a story of its own makes it happen.
const RARE: [&str; 3] = ["outbox_refused_total", "outbox_quarantines_total", "outbox_outages_total"];
/// What payments show of it: commands without an outcome while there are some, the others from their first time on.
const RARE_OF_PAYMENTS: [&str; 3] =
    ["payments_provider_held_back_total", "payments_open_intents", "payments_commands"];
/// What is there only in a stage with a feed.
const RARE_OF_FEEDS: &str = "strangler_feed_heartbeat_age_seconds";
/// The files of alerts, in the order of the documentation.
const RULES: [&str; 3] = [
    "deploy/prometheus/outbox.rules.yaml",
    "deploy/prometheus/payments.rules.yaml",
    "deploy/prometheus/reconciliation.rules.yaml",
];

/// What a process shows at `/metrics`.
pub(crate) async fn scrape(listening: &Listening) -> Result<String> {
    let admin = listening.get("admin").context("it names no admin address")?;
    let answer = reqwest::get(format!("http://{admin}/metrics")).await?;
    ensure!(answer.status() == 200, "{}", answer.status());
    Ok(answer.text().await?)
}

/// The sum of all series of `name` whose labels contain `label`.
pub(crate) fn sum(text: &str, name: &str, label: &str) -> Result<f64> {
    let mut sum = 0.0;
    for line in text.lines() {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        if series.split('{').next() == Some(name) && series.contains(label) {
            sum += value.parse::<f64>()?;
        }
    }
    Ok(sum)
}

/// The families that are shown.
fn families(text: &str) -> BTreeSet<String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    types.map(str::to_owned).collect()
}

/// The whole text of a file of the repository.
fn file(path: &str) -> Result<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::fs::read_to_string(root.join(path)).with_context(|| format!("read {path}"))
}

/// All words of a file that begin like the names of our own numbers, without the suffixes that Prometheus gives to parts of a
/// histogram.
fn named_in(file: &str) -> Result<BTreeSet<String>> {
    let text = self::file(file)?;
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
    let words = words.filter(|word| is_ours(word));
    Ok(words.map(|word| word.trim_end_matches("_bucket").to_owned()).collect())
}

fn is_ours(name: &str) -> bool {
    ["outbox_", "payments_", "strangler_"].iter().any(|ours| name.starts_with(ours))
}

async fn count(pool: &PgPool, query: &'static str) -> Result<f64> {
    let count: i64 = sqlx::query_scalar(query).fetch_one(pool).await?;
    Ok(f64::from(u32::try_from(count)?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_numbers_of_running_processes_are_true() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        shop.migrate(&["acme"]).await?;
        shop.start_provider(&[]).await?;
        let monolith = shop.start_monolith("monolith", "all").await?;
        let service = shop.start_service("payments-service", "all").await?;
        let client = shop.client("acme")?;
        let body = order(&client, "pm_card_visa", "automatic").await?;
        for key in ["one", "two", "three"] {
            place(&client, key, &body, Ended::Paid).await?;
        }
        let rare = rare_of_payments(&client, &monolith).await?;
        shop.settle(SETTLED).await?;
        world.delivered(SOON).await?;

        let handled = "select coalesce(sum(version), 0)::bigint from outbox.cursor where handler = 'orders.follow_payment'";
        let handler = "handler=\"orders.follow_payment\"";
        until("the monolith to tell what happened", SOON, async || {
            let text = scrape(&monolith).await?;
            let published = count(&shop.source, "select count(*) from outbox.event").await?;
            let sent = sum(&text, "outbox_sent_total", "")?;
            ensure!(sent >= published && published >= 6.0, "{sent} of {published} sent");
            ensure!(sum(&text, "outbox_commit_to_broker_seconds_count", "")? >= published, "{text}");
            let (applied, ignored) = (format!("{handler},verdict=\"applied\""), format!("{handler},verdict=\"ignored\""));
            let dealt = sum(&text, "outbox_dealt_total", &applied)? + sum(&text, "outbox_dealt_total", &ignored)?;
            let wanted = count(&shop.source, handled).await?;
            ensure!(dealt == wanted && wanted > 0.0, "{dealt} dealt with, the cursors say {wanted}");
            ensure!(sum(&text, "outbox_pending", "")? == 0.0, "the queue is empty");
            Ok(Some(()))
        })
        .await?;
        let text = scrape(&monolith).await?;
        let created = "method=\"POST\",route=\"/v1/orders\",status=\"201\"";
        assert!(sum(&text, "http_server_request_duration_seconds_count", created)? >= 3.0, "{text}");

        let documented = named_in("docs/telemetry.md")?;
        // The gauges of a handler show at the first reading after it was registered.
        let shown = until("the documentation to name what is shown, and all of it", SOON, async || {
            let text = scrape(&monolith).await? + &scrape(&service).await?;
            let shown = families(&text).into_iter().filter(|name| is_ours(name));
            let shown = shown.chain(RARE.map(str::to_owned)).chain(rare.clone());
            let shown = shown.chain([RARE_OF_FEEDS.to_owned()]);
            let shown: BTreeSet<String> = shown.collect();
            ensure!(documented == shown, "documented {documented:?}, shown {shown:?}");
            Ok(Some(shown))
        })
        .await?;
        for rules in RULES {
            let alerts = named_in(rules)?;
            assert!(alerts.len() >= 3 && alerts.is_subset(&shown), "{alerts:?} {shown:?}");
        }
        // The gauges are as of the last reading, which may have been before the end.
        let text = until("nothing to be unknown", SOON, async || {
            let text = scrape(&monolith).await?;
            let unknown = sum(&text, "payments_oldest_unknown_age_seconds", "")?;
            Ok((unknown == 0.0 && sum(&text, "payments_open_intents", "")? == 0.0).then_some(text))
        })
        .await?;
        let charged = "operation=\"confirm\",result=\"ok\"";
        assert!(sum(&text, "payments_provider_call_duration_seconds_count", charged)? >= 3.0, "{text}");
        assert_eq!(sum(&text, "payments_provider_circuit", "")?, 0.0);
        assert!(scrape(&service).await?.contains("target_info{service_name=\"payments-service\"} 1"));
        Ok(())
    })
    .await;
}

/// What a shop shows of payments only when the provider is slow or asks for a pause, or a merchant gives a command: each is made
/// to happen and seen by its name.
async fn rare_of_payments(client: &Client, monolith: &Listening) -> Result<BTreeSet<String>> {
    let reserved = order(client, "pm_card_visa", "manual").await?;
    let reserved = place(client, "reserved", &reserved, Ended::Paid).await?;
    until_status(client, &reserved.payment, "authorized").await?;
    let captured =
        client.post(&format!("/v1/payments/{}/capture", reserved.payment), "capture", &json!({})).await?;
    ensure!(captured.status == 200, "{} {}", captured.status, captured.body);
    // Charged ten seconds late, so open for longer than it is between two readings of the gauges.
    let late = order(client, "pm_charged_late", "automatic").await?;
    place(client, "late", &late, Ended::Paid).await?;
    let mut shown = BTreeSet::new();
    // Each is turned away once, and nothing is sent for a second then: the next one is held back.
    let limited = order(client, "pm_confirm_rate_limited", "automatic").await?;
    let mut orders = 0;
    until("a request to be held back", SOON, async || {
        orders += 1;
        place(client, &format!("limited-{orders}"), &limited, Ended::Paid).await?;
        shown.extend(families(&scrape(monolith).await?));
        Ok(shown.contains(RARE_OF_PAYMENTS[0]).then_some(()))
    })
    .await?;
    until(&format!("each of {RARE_OF_PAYMENTS:?} to be shown"), SOON, async || {
        shown.extend(families(&scrape(monolith).await?));
        ensure!(RARE_OF_PAYMENTS.iter().all(|name| shown.contains(*name)), "only {shown:?}");
        Ok(Some(()))
    })
    .await?;
    shown.retain(|name| RARE_OF_PAYMENTS.contains(&name.as_str()));
    Ok(shown)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_events_trace_is_its_requests() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        shop.start_all(&["acme"], &[]).await?;
        let client = shop.client("acme")?;
        let body = order(&client, "pm_card_visa", "automatic").await?;
        let request = client.request(reqwest::Method::POST, "/v1/orders").header("idempotency-key", "traced");
        let request = request.header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01")).json(&body);
        assert_eq!(request.send().await?.status(), 201);
        let traced =
            "select count(*) from outbox.event where headers->>'traceparent' like '00-' || $1 || '-%'";
        // The order's event, and the request for its payment, which was published in the same transaction.
        let events: i64 = sqlx::query_scalar(traced).bind(TRACE).fetch_one(&shop.source).await?;
        assert_eq!(events, 2);
        shop.settle(SOON).await?;
        Ok(())
    })
    .await;
}

#[test]
fn each_alert_has_its_line_in_the_documentation() {
    let rules = RULES.map(|rules| file(rules).unwrap()).concat();
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let page = file("docs/telemetry.md").unwrap();
    let table = page.split("## Alerts").nth(1).unwrap();
    let lines = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    assert_eq!(alerts, lines.collect::<Vec<_>>(), "in the same order");
    assert!(alerts.len() > 5, "{alerts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_rare_is_shown_by_its_documented_name() {
    story(async |world, stack| {
        let post = notes::post(world, stack).await?;
        let telemetry = Telemetry::new("post", None)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let listening = Listening::default().at("admin", listener.local_addr()?);
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(server::serve(listener, telemetry.routes(), shutdown.clone()));
        let memory = Memory::new(1);
        memory.refuse(|_| true);
        let options = RelayOptions { attempts_max: 1, ..RelayOptions::default() };
        let relay = Relay::new(post.relay.clone(), memory.sink()).with(options);
        let relay = relay.metrics(Metrics::new(&telemetry.meter()));
        let relay = tokio::spawn(relay.run(shutdown.clone()));

        publish(&post.module, &Noted::new("a", 1)).await?;
        until_shown(&listening, &["outbox_refused_total", "outbox_quarantines_total"]).await?;
        memory.outage(Outage::Down);
        publish(&post.module, &Noted::new("b", 1)).await?;
        until_shown(&listening, &RARE).await?;

        memory.outage(Outage::None);
        memory.refuse(|_| false);
        quarantine::resend(&post.admin, (NOTES, "a", 1), "ann", "the broker was mended").await?;
        until_delivered(&post).await?;
        shutdown.cancel();
        relay.await??;
        serving.await??;
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_that_is_not_heard_is_shown_by_its_age_while_the_stage_has_it() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        shop.migrate(&["acme"]).await?;
        shop.start_provider(&[]).await?;
        let monolith = shop.start_monolith("monolith", "all").await?;
        shop.start_service("payments-service", "all").await?;
        let source = async || {
            let text = scrape(&monolith).await?;
            assert!(!text.contains("from=\"target\""), "the target sends none in this stage: {text}");
            let is_shown = families(&text).contains(RARE_OF_FEEDS);
            Ok::<_, anyhow::Error>(is_shown.then_some(sum(&text, RARE_OF_FEEDS, "from=\"source\"")?))
        };
        assert_eq!(source().await?, None, "in local there is no feed");

        shop.operator()?.follow().await?;
        until("the age of its last one to be shown", SOON, async || {
            Ok(source().await?.filter(|age| *age < 5.0))
        })
        .await?;
        world.pause("payments-service").await?;
        // From there on `FeedSilent` counts its minute.
        until("its age to be over the alert's", SILENT, async || {
            Ok(source().await?.filter(|age| *age > 15.0))
        })
        .await?;
        world.resume("payments-service").await?;
        until("it to be heard again", SILENT, async || Ok(source().await?.filter(|age| *age < 15.0))).await?;
        shop.settle(SOON).await?;
        Ok(())
    })
    .await;
}

async fn until_shown(listening: &Listening, names: &[&str]) -> Result<()> {
    until(&format!("{names:?} to be shown"), SOON, async || {
        let shown = families(&scrape(listening).await?);
        Ok(names.iter().all(|name| shown.contains(*name)).then_some(()))
    })
    .await
}
