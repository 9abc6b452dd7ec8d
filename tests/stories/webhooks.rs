//! Webhooks reach the owner of their payment, wherever it is and whatever happens on the way; bad ones change nothing.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chassis::Secret;
use serde_json::{Value, json};
use sqlx::PgPool;
use tests::checker::{Accepted, Ended};
use tests::{Binaries, Process, Shop, World, story, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;
use webhooks::{HEADER, sign};

use crate::migration::until_status;
use crate::orders::{order, place};

const SOON: Duration = Duration::from_secs(30);
const SIGABRT: i32 = 6;

/// The provider, as far as it sends webhooks.
struct Sender<'s> {
    http: reqwest::Client,
    url: String,
    secret: &'s Secret,
}

impl<'s> Sender<'s> {
    fn new(shop: &'s Shop<'_>) -> Self {
        Self { http: reqwest::Client::new(), url: shop.webhook_url(), secret: shop.webhook_secret() }
    }

    /// The status, and the end of the problem's type.
    async fn tell(&self, event: &Value) -> Result<(u16, String)> {
        let body = event.to_string();
        self.post(&sign(self.secret, now(), body.as_bytes()), body).await
    }

    async fn post(&self, signature: &str, body: String) -> Result<(u16, String)> {
        let request = self.http.post(&self.url).header(HEADER, signature);
        let answer = request.header("content-type", "application/json").body(body).send().await?;
        let (status, text) = (answer.status().as_u16(), answer.text().await?);
        let problem: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        let code = problem["type"].as_str().and_then(|kind| kind.rsplit('/').next());
        Ok((status, code.unwrap_or_default().to_owned()))
    }

    /// It must be taken.
    async fn taken(&self, event: &Value) -> Result<()> {
        let answer = self.tell(event).await?;
        ensure!(answer == (200, String::new()), "{answer:?} to {event}");
        Ok(())
    }
}

fn now() -> time::OffsetDateTime {
    time::OffsetDateTime::now_utc()
}

/// An event of one of acme's payments.
fn event(id: &str, kind: &str, payment: &str, object: &str) -> Value {
    json!({
        "id": id, "object": "event", "type": kind, "created": now().unix_timestamp(), "pending_webhooks": 1,
        "data": { "object": { "id": object, "status": "succeeded", "metadata": {
            "payment_id": payment, "tenant": "acme", "command_id": Uuid::now_v7(), "operation": "charge",
        } } },
    })
}

/// The payment intent of a payment, as its owner has it.
async fn intent_of(home: &PgPool, payment: &str) -> Result<String> {
    let sql = "select provider_ref from payments.payment where id = $1::uuid";
    Ok(sqlx::query_scalar(sql).bind(payment).fetch_one(home).await?)
}

/// State and last word of a notice.
async fn notice(shop: &Shop<'_>, id: &str) -> Result<(String, Option<String>)> {
    let sql = "select state, why from webhooks.notice where id = $1";
    Ok(sqlx::query_as(sql).bind(id).fetch_one(&shop.source).await?)
}

async fn until_notice(shop: &Shop<'_>, id: &str, state: &str) -> Result<Option<String>> {
    until(&format!("notice {id} to be {state}"), SOON, async || {
        let (now, why) = notice(shop, id).await?;
        ensure!(now == state, "it is {now}: {why:?}");
        Ok(Some(why))
    })
    .await
}

/// Waits until at least this many notices came and the owners of their payments have taken all of them.
pub(crate) async fn until_all_taken(shop: &Shop<'_>, at_least: i64) -> Result<()> {
    until("every notice to be taken", SOON, async || {
        let sql = "select state, count(*) from webhooks.notice group by state order by state";
        let states: Vec<(String, i64)> = sqlx::query_as(sql).fetch_all(&shop.source).await?;
        ensure!(
            matches!(&states[..], [(state, count)] if state == "applied" && *count >= at_least),
            "{states:?}"
        );
        Ok(Some(()))
    })
    .await
}

/// What the books say, in both homes: a notice changes none of it.
async fn books(shop: &Shop<'_>) -> Result<Vec<String>> {
    let sql = "select p.id::text || p.status || p.version || coalesce(sum(e.amount_minor) filter (where e.account = 'clearing'), 0)
               from payments.payment p left join payments.ledger_entry e on e.payment_id = p.id group by p.id order by 1";
    let mut books: Vec<String> = sqlx::query_scalar(sql).fetch_all(&shop.source).await?;
    books.extend(sqlx::query_scalar::<_, String>(sql).fetch_all(&shop.target).await?);
    Ok(books)
}

/// One payment at each home, both captured.
async fn one_each(shop: &Shop<'_>) -> Result<[Accepted; 2]> {
    let (client, operator) = (shop.client("acme")?, shop.operator()?);
    let purchase = order(&client, "pm_card_visa", "automatic").await?;
    let at_source = place(&client, "at-source", &purchase, Ended::Paid).await?;
    operator.follow().await?;
    operator.ramp(100).await?;
    let at_target = place(&client, "at-target", &purchase, Ended::Paid).await?;
    for payment in [&at_source, &at_target] {
        until_status(&client, &payment.payment, "captured").await?;
    }
    Ok([at_source, at_target])
}

/// The words of a file of the repository that begin with `webhooks_`.
fn named_in(file: &str) -> Result<BTreeSet<String>> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file))?;
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
    Ok(words.filter(|word| word.starts_with("webhooks_")).map(str::to_owned).collect())
}

/// The numbers of webhooks that a process shows.
async fn shown(world: &World, process: &str) -> Result<BTreeSet<String>> {
    let processes = world.processes().await;
    let listening = processes.iter().find(|(name, ..)| name == process).map(|(_, listening, _)| listening);
    let admin =
        listening.and_then(|listening| listening.get("admin")).context("it names no admin address")?;
    let text = reqwest::get(format!("http://{admin}/metrics")).await?.text().await?;
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    Ok(types.filter(|name| name.starts_with("webhooks_")).map(str::to_owned).collect())
}

/// What an operator's command says.
async fn operator(shop: &Shop<'_>, args: &[&str]) -> Result<String> {
    let spec = shop.monolith_spec("operator", &[&["webhooks"], args].concat());
    let (status, said) = Process::run(&spec, SOON).await?;
    ensure!(status.success(), "{args:?}: {status}\n{said}");
    Ok(said)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_notice_reaches_the_home_that_owns_its_payment() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        shop.start_all(&["acme"], &[]).await?;
        let [at_source, at_target] = one_each(&shop).await?;
        shop.settle(SOON).await?;
        let (sender, before) = (Sender::new(&shop), books(&shop).await?);

        for (name, payment, home) in
            [("source", &at_source.payment, &shop.source), ("target", &at_target.payment, &shop.target)]
        {
            let intent = intent_of(home, payment).await?;
            let of = |what: &str, kind: &str, object: &str| {
                event(&format!("evt_{name}_{what}"), kind, payment, object)
            };
            let succeeded = of("succeeded", "payment_intent.succeeded", &intent);
            // The later one first, and each of them twice.
            for event in [&succeeded, &of("processing", "payment_intent.processing", &intent)] {
                sender.taken(event).await?;
                sender.taken(event).await?;
            }
            sender.taken(&of("refunded", "refund.created", "re_nobodys")).await?;
            for what in ["succeeded", "processing"] {
                until_notice(&shop, &format!("evt_{name}_{what}"), "applied").await?;
            }
            let why = until_notice(&shop, &format!("evt_{name}_refunded"), "surprise").await?;
            assert_eq!(why.as_deref(), Some("refund.created: the books have no refund re_nobodys"));
        }
        let rows: i64 =
            sqlx::query_scalar("select count(*) from webhooks.notice").fetch_one(&shop.source).await?;
        assert_eq!(rows, 6, "one of each, however often it came");
        assert_eq!(books(&shop).await?, before, "a notice moves no money");

        let documented = named_in("docs/webhooks.md")?;
        assert_eq!(shown(world, "monolith").await?, documented);
        let alerts = named_in("deploy/prometheus/webhooks.rules.yaml")?;
        assert!(alerts.len() > 3 && alerts.is_subset(&documented), "{alerts:?}");

        let listed = operator(&shop, &["list", "--state", "surprise"]).await?;
        assert!(listed.contains("evt_source_refunded") && listed.contains("evt_target_refunded"), "{listed}");
        for name in ["source", "target"] {
            let id = format!("evt_{name}_refunded");
            operator(&shop, &["dismiss", &id, "--by", "ann", "--reason", "made up by a test"]).await?;
        }
        let listed = operator(&shop, &["list", "--state", "dismissed"]).await?;
        assert!(listed.contains("dismissed by ann: made up by a test"), "{listed}");
        assert!(operator(&shop, &["retry", "evt_source_refunded"]).await.is_err(), "it is at its end");
        let findings = shop.check(vec![at_source, at_target]).await?;
        assert!(findings.holds(), "{findings}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_provider_sends_doubled_and_reordered_finds_its_place() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        let url = shop.webhook_url();
        shop.start_all(&["acme"], &[("PROVIDER_WEBHOOK_URL", &url)]).await?;
        let processes = world.processes().await;
        let provider = processes.iter().find(|(name, ..)| name == "provider");
        let admin =
            provider.and_then(|(_, listening, _)| listening.get("admin")).context("no admin address")?;
        let disorder = json!({ "duplicate": 2, "reverse": true, "hold_ms": 300 });
        let called = reqwest::Client::new().post(format!("http://{admin}/admin/webhooks")).json(&disorder);
        assert!(called.send().await?.status().is_success());

        let client = shop.client("acme")?;
        let mut accepted = Vec::from(one_each(&shop).await?);
        for (n, card) in ["pm_card_visa", "pm_card_declined", "pm_charged_no_answer"].into_iter().enumerate()
        {
            let ends = if card == "pm_card_declined" { Ended::Cancelled } else { Ended::Paid };
            let purchase = order(&client, card, "automatic").await?;
            accepted.push(place(&client, &format!("more-{n}"), &purchase, ends).await?);
        }
        for paid in &accepted[..2] {
            let refund = format!("/v1/payments/{}/refunds", paid.payment);
            let answer = client.post(&refund, &paid.payment, &json!({ "amount_minor": 100 })).await?;
            ensure!(matches!(answer.status, 200 | 202), "{} {}", answer.status, answer.body);
        }
        shop.settle(SOON).await?;
        // Five payments, two of them refunded: each told something, and all of it was what the books have.
        until_all_taken(&shop, 7).await?;
        let findings = shop.check(accepted).await?;
        assert!(findings.holds(), "{findings}");
        Ok(())
    })
    .await;
}

#[test]
fn each_alert_on_webhooks_has_its_line_in_the_documentation() {
    let file = |path: &str| {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
    };
    let rules = file("deploy/prometheus/webhooks.rules.yaml");
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let page = file("docs/webhooks.md");
    let lines = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    assert_eq!(alerts, lines.filter(|name| name.starts_with("Webhooks")).collect::<Vec<_>>());
    assert!(alerts.len() > 3, "{alerts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn custody_outlasts_a_dead_owner() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        shop.start_all(&["acme"], &[]).await?;
        let [_, at_target] = one_each(&shop).await?;
        shop.settle(SOON).await?;
        let intent = intent_of(&shop.target, &at_target.payment).await?;

        let service = world.kill("payments-service").await?;
        Sender::new(&shop)
            .taken(&event("evt_1", "payment_intent.succeeded", &at_target.payment, &intent))
            .await?;
        until("the owner to be asked in vain", SOON, async || {
            let (state, why) = notice(&shop, "evt_1").await?;
            ensure!(state == "waiting", "{state}");
            Ok(why)
        })
        .await?;
        assert!(operator(&shop, &["list"]).await?.contains("evt_1"), "whoever looks sees it");
        shop.start_ready(service).await?;
        until_notice(&shop, "evt_1", "applied").await?;
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_early_notice_waits_for_its_payments_first_event() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        shop.migrate(&["acme"]).await?;
        shop.start_provider(&[]).await?;
        // No relay yet: the order is accepted, and its payment's first event goes nowhere.
        shop.start_monolith("web", "web,controller").await?;
        shop.start_monolith("inbox", "inbox").await?;
        let client = shop.client("acme")?;
        let purchase = order(&client, "pm_card_visa", "automatic").await?;
        let placed = place(&client, "early", &purchase, Ended::Paid).await?;
        let sender = Sender::new(&shop);
        sender.taken(&event("evt_early", "payment_intent.processing", &placed.payment, "pi_any")).await?;
        sender
            .taken(&event("evt_nobodys", "payment_intent.processing", &Uuid::now_v7().to_string(), "pi_any"))
            .await?;
        for id in ["evt_early", "evt_nobodys"] {
            until_notice(&shop, id, "early").await?;
        }

        shop.start_monolith("relay", "relay").await?;
        until_status(&client, &placed.payment, "captured").await?;
        until_notice(&shop, "evt_early", "applied").await?;
        assert_eq!(notice(&shop, "evt_nobodys").await?.0, "early", "nobody ordered that one");

        // A monolith with less patience shows it to a person.
        let mut inbox = world.stop("inbox").await?;
        inbox.env.push(("MONOLITH_WEBHOOKS_UNPLACED_AFTER".into(), "1s".into()));
        shop.start_ready(inbox).await?;
        until_notice(&shop, "evt_nobodys", "unplaced").await?;
        assert!(operator(&shop, &["list", "--state", "unplaced"]).await?.contains("evt_nobodys"));
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_dies_after_any_step_loses_no_notice() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        shop.start_all(&["acme"], &[]).await?;
        let client = shop.client("acme")?;
        let purchase = order(&client, "pm_card_visa", "automatic").await?;
        let placed = place(&client, "one", &purchase, Ended::Paid).await?;
        until_status(&client, &placed.payment, "captured").await?;
        shop.settle(SOON).await?;
        let (intent, before) = (intent_of(&shop.source, &placed.payment).await?, books(&shop).await?);
        let mut spec = world.stop("monolith").await?;
        let sender = Sender::new(&shop);

        for point in ["webhook.stored", "webhook.delivered", "webhook.marked"] {
            let id = format!("evt_{}", point.replace('.', "_"));
            let event = event(&id, "payment_intent.succeeded", &placed.payment, &intent);
            spec.env.push(("MONOLITH_CRASH_AT".into(), point.into()));
            shop.start_ready(spec.clone()).await?;
            let answer = sender.tell(&event).await;
            ensure!(
                answer.is_err() || point != "webhook.stored",
                "it died before it could answer: {answer:?}"
            );
            let status = world.ended("monolith", SOON).await?;
            ensure!(status.signal() == Some(SIGABRT), "at {point}: {status}");
            spec.env.pop();

            shop.start_ready(spec.clone()).await?;
            // Whoever got no answer sends again.
            sender.taken(&event).await?;
            until_notice(&shop, &id, "applied").await?;
            spec = world.stop("monolith").await?;
        }
        assert_eq!(books(&shop).await?, before);
        shop.start_ready(spec).await?;
        Ok(())
    })
    .await;
}

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
