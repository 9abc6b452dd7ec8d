//! The provider's list and the books differ in every way there is: each is found by its name, the explainable ones are closed by a
//! posting, in both homes, whenever the one who books dies.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chassis::listening::Listening;
use serde_json::{Value, json};
use sqlx::PgPool;
use tests::checker::{Accepted, Ended};
use tests::load::Client;
use tests::{Binaries, Process, Shop, Side, story, until};

use crate::migration::{born_at, command, until_status};
use crate::orders::{order, place};

const SOON: Duration = Duration::from_secs(60);
/// Of a signal that `abort` sends.
const SIGABRT: i32 = 6;
/// Money without a line is late at once, and missing only much later.
const LATE: [(&str, &str); 2] = [("RECONCILE_LATE_AFTER", "0s"), ("RECONCILE_MISSING_AFTER", "1h")];
/// It is missing as soon as it can be.
const MISSING: [(&str, &str); 2] = [("RECONCILE_LATE_AFTER", "0s"), ("RECONCILE_MISSING_AFTER", "1ms")];

/// A home under test: its commands, and what it kept.
struct Home<'a> {
    shop: &'a Shop<'a>,
    side: Side,
    provider: Listening,
}

impl Home<'_> {
    fn pool(&self) -> &PgPool {
        match self.side {
            Side::Source => &self.shop.source,
            Side::Target => &self.shop.target,
        }
    }

    /// Runs a command of this home's program; its exit code (none: a signal) and what it printed.
    async fn run(&self, args: &[&str], env: &[(&str, &str)]) -> Result<(Option<i32>, String)> {
        let mut spec = match self.side {
            Side::Source => self.shop.monolith_spec("operator", args),
            Side::Target => self.shop.service_spec("operator", args),
        };
        spec.env.extend(env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let (status, text) = Process::run(&spec, SOON).await?;
        ensure!(status.code().is_some() || status.signal() == Some(SIGABRT), "{status} {text}");
        Ok((status.code(), text))
    }

    /// Runs a reconciliation that dies at a crash point.
    async fn dies_at(&self, point: &str) -> Result<()> {
        let setting = match self.side {
            Side::Source => "MONOLITH_CRASH_AT",
            Side::Target => "PAYMENTS_CRASH_AT",
        };
        let (code, text) = self.run(&["reconcile"], &[LATE[0], LATE[1], (setting, point)]).await?;
        ensure!(code.is_none() && text.contains(point), "it should have died at {point}: {code:?} {text}");
        Ok(())
    }

    /// Tells the provider by admin call.
    async fn tell(&self, path: &str, body: &Value) -> Result<()> {
        let admin = self.provider.get("admin").context("the provider has no admin address")?;
        let answer = reqwest::Client::new().post(format!("http://{admin}{path}")).json(body).send().await?;
        ensure!(answer.status().is_success(), "{path} {body}: {} {}", answer.status(), answer.text().await?);
        Ok(())
    }

    async fn intent(&self, payment: &str) -> Result<String> {
        let sql = "select provider_ref from payments.payment where id = $1::uuid";
        Ok(sqlx::query_scalar(sql).bind(payment).fetch_one(self.pool()).await?)
    }

    /// Kinds of differences in this state.
    async fn kinds(&self, state: &str) -> Result<BTreeSet<String>> {
        let sql = "select kind from payments.difference where state = $1";
        let kinds: Vec<String> = sqlx::query_scalar(sql).bind(state).fetch_all(self.pool()).await?;
        Ok(kinds.into_iter().collect())
    }

    /// How many differences of a kind are in this state.
    async fn count(&self, kind: &str, state: &str) -> Result<i64> {
        let sql = "select count(*) from payments.difference where kind = $1 and state = $2";
        Ok(sqlx::query_scalar(sql).bind(kind).bind(state).fetch_one(self.pool()).await?)
    }

    /// Balance of an account over all payments.
    async fn balance(&self, account: &str) -> Result<i64> {
        let sql =
            "select coalesce(sum(amount_minor), 0)::bigint from payments.ledger_entry where account = $1";
        Ok(sqlx::query_scalar(sql).bind(account).fetch_one(self.pool()).await?)
    }

    /// Whatever a run may change.
    async fn rows(&self) -> Result<Vec<String>> {
        let sql = "
            select d::text from payments.difference d union all select e::text from payments.ledger_entry e
            union all select s::text from payments.settled s union all select p::text from payments.payment p
            union all select a::text from payments.audit a order by 1";
        Ok(sqlx::query_scalar(sql).fetch_all(self.pool()).await?)
    }
}

/// Five orders that are paid, and one that is reserved.
struct Orders {
    paid: Vec<Accepted>,
    reserved: Accepted,
}

impl Orders {
    async fn place(client: &Client) -> Result<Self> {
        let (automatic, manual) = (
            order(client, "pm_card_visa", "automatic").await?,
            order(client, "pm_card_visa", "manual").await?,
        );
        let mut paid = Vec::new();
        for n in 0..5 {
            paid.push(place(client, &format!("paid-{n}"), &automatic, Ended::Paid).await?);
        }
        let reserved = place(client, "reserved", &manual, Ended::Cancelled).await?;
        for accepted in &paid {
            until_status(client, &accepted.payment, "captured").await?;
        }
        until_status(client, &reserved.payment, "authorized").await?;
        Ok(Self { paid, reserved })
    }
}

/// What people do in the provider's dashboard, and what its list then says wrongly.
async fn differ(home: &Home<'_>, client: &Client, orders: &mut Orders) -> Result<()> {
    let mut intents = Vec::new();
    for accepted in orders.paid.iter().chain([&orders.reserved]) {
        intents.push(home.intent(&accepted.payment).await?);
    }
    home.tell("/admin/refund", &json!({ "payment_intent": intents[0], "amount": 3 })).await?;
    fail_refund(home, client, &orders.paid[3].payment).await?;
    let unasked = json!({ "payment_id": orders.paid[1].payment, "amount": 5, "currency": "eur" });
    home.tell("/admin/charge", &unasked).await?;
    home.tell("/admin/cancel", &json!({ "payment_intent": intents[5] })).await?;
    // A line that was seen can't come late: this one is hidden before anyone looks.
    let automatic = order(client, "pm_card_visa", "automatic").await?;
    let unseen = place(client, "unseen", &automatic, Ended::Paid).await?;
    until_status(client, &unseen.payment, "captured").await?;
    let hidden = home.intent(&unseen.payment).await?;
    orders.paid.push(unseen);
    let lies = json!({ "alter": { (intents[2].clone()): -1 }, "hide": [hidden] });
    home.tell("/admin/settlements", &lies).await
}

/// A merchant's refund, which succeeds and is in the books; days later the payer's bank sends it back.
async fn fail_refund(home: &Home<'_>, client: &Client, payment: &str) -> Result<()> {
    command(client, payment, "refunds", &json!({ "amount_minor": 3 })).await?;
    let journal = std::fs::read_to_string(home.shop.world.logs().join("journal.jsonl"))?;
    let mut lines = journal.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let made = lines.find(|line| line["kind"] == "refund" && line["metadata"]["payment_id"] == payment);
    let made = made.context("the journal has no refund of the payment")?;
    home.tell("/admin/refund_failure", &json!({ "refund": made["id"] })).await
}

/// The provider dies for nobody: three postings are to be made, and the one who makes them dies before and after the first.
async fn survives(home: &Home<'_>) -> Result<()> {
    home.dies_at("adjustment.written").await?;
    ensure!(home.balance("receivable").await? == 0, "nothing is booked before the commit");
    home.dies_at("adjustment.committed").await?;
    let booked = home.balance("receivable").await?;
    ensure!([3, -5, -3].contains(&booked), "one of the three is booked: {booked}");
    Ok(())
}

async fn reconciled(side: Side) {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        shop.migrate(&["acme"]).await?;
        let provider = shop.start_provider(&[]).await?;
        shop.start_monolith("monolith", "all").await?;
        shop.start_service("payments-service", "all").await?;
        let client = shop.client("acme")?;
        let first = born_at(&shop, side, &client).await?;
        let home = Home { shop: &shop, side, provider };
        let mut orders = Orders::place(&client).await?;
        world.delivered(SOON).await?;
        let (code, text) = home.run(&["reconcile"], &LATE).await?;
        ensure!(code == Some(0) && text.contains("no difference is open"), "{code:?} {text}");

        differ(&home, &client, &mut orders).await?;
        survives(&home).await?;
        let (code, text) = home.run(&["reconcile", "--all"], &LATE).await?;
        ensure!(code == Some(1), "{code:?} {text}");
        for word in [
            "missing_here",
            "amount",
            "state",
            "late",
            "and its object confirms it",
            "authorized here, canceled there",
        ] {
            ensure!(text.contains(word), "{word} is not in\n{text}");
        }
        ensure!(home.kinds("closed").await? == BTreeSet::from(["missing_here".to_owned()]), "{text}");
        ensure!(home.count("missing_here", "closed").await? == 3, "each is closed once: {text}");
        let receivable = home.balance("receivable").await?;
        ensure!(
            receivable == 3 - 5 - 3,
            "returned, taken unasked, and a refund that came back: {receivable}"
        );
        let before = home.rows().await?;
        home.run(&["reconcile"], &LATE).await?;
        ensure!(home.rows().await? == before, "a second run changes nothing");

        let (code, text) = home.run(&["reconcile"], &MISSING).await?;
        ensure!(
            code == Some(1) && text.contains("missing_there") && !text.contains(" late "),
            "{code:?} {text}"
        );

        // The provider's list is mended; the reservation is given up here too.
        home.tell("/admin/settlements", &json!({})).await?;
        let void = format!("/v1/payments/{}/void", orders.reserved.payment);
        let voided = client.post(&void, "void", &json!({})).await?;
        ensure!(voided.text("status") == "voided", "{} {}", voided.status, voided.body);
        let (code, text) = home.run(&["reconcile", "--all"], &MISSING).await?;
        ensure!(code == Some(0) && text.contains("its line came: txn_"), "{code:?} {text}");
        ensure!(home.kinds("open").await?.is_empty(), "{text}");

        shop.settle(SOON).await?;
        let accepted = orders.paid.into_iter().chain([orders.reserved]).chain(first).collect();
        let findings = shop.check(accepted).await?;
        ensure!(findings.holds() && findings.books_balanced(), "{findings}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_difference_is_named_and_the_explainable_are_booked() {
    reconciled(Side::Source).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_difference_is_named_and_the_explainable_are_booked_at_the_service() {
    reconciled(Side::Target).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_home_reconciles_by_itself_and_a_person_closes_what_is_left() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        shop.migrate(&["acme"]).await?;
        let provider = shop.start_provider(&[]).await?;
        let mut spec = shop.running_monolith("monolith", "all");
        let often = [("RECONCILE_EVERY", "1s"), LATE[0], LATE[1]];
        spec.env.extend(often.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let monolith = world.start(spec).await?;
        let client = shop.client("acme")?;
        let home = Home { shop: &shop, side: Side::Source, provider };
        let body = order(&client, "pm_card_visa", "automatic").await?;
        let paid = place(&client, "paid", &body, Ended::Paid).await?;
        until_status(&client, &paid.payment, "captured").await?;
        // Of nobody's payment: nothing here can explain it.
        let unknown = uuid::Uuid::now_v7();
        let metadata = json!({ "tenant": "acme" });
        let charge = json!({ "payment_id": unknown, "amount": 5, "currency": "eur", "metadata": metadata });
        home.tell("/admin/charge", &charge).await?;
        let shown = "payments_open_differences{kind=\"missing_here\"";
        until("the job to tell", SOON, async || {
            let admin = monolith.get("admin").context("no admin address")?;
            let text = reqwest::get(format!("http://{admin}/metrics")).await?.text().await?;
            let line = text.lines().find(|line| line.starts_with(shown)).unwrap_or_default();
            ensure!(line.ends_with(" 1"), "{line}");
            ensure!(text.contains("payments_reconciliation_age_seconds"), "{text}");
            ensure!(text.contains("payments_reconciled_lines"), "{text}");
            Ok(Some(()))
        })
        .await?;

        let (code, text) =
            home.run(&["accept-difference", "4711", "--by", "ann", "--reason", "a test"], &[]).await?;
        ensure!(code == Some(1), "there is no such difference: {code:?} {text}");
        let id: i64 = sqlx::query_scalar("select id from payments.difference where state = 'open'")
            .fetch_one(&shop.source)
            .await?;
        let id = id.to_string();
        let (code, text) = home.run(&["accept-difference", &id, "--by", "ann"], &[]).await?;
        ensure!(code == Some(2), "a reason is needed: {code:?} {text}");
        let args = ["accept-difference", &id, "--by", "ann", "--reason", "a test of ours"];
        let (code, text) = home.run(&args, &[]).await?;
        ensure!(code == Some(0) && text.contains("closed by ann: a test of ours"), "{code:?} {text}");
        let (code, text) = home.run(&["reconcile"], &LATE).await?;
        ensure!(code == Some(0), "what was accepted stays so: {code:?} {text}");
        let told: i64 = sqlx::query_scalar(
            "select count(*) from payments.audit where action = 'difference accepted' and actor = 'ann'",
        )
        .fetch_one(&shop.source)
        .await?;
        ensure!(told == 1, "the audit tells once who decided");
        Ok(())
    })
    .await;
}
