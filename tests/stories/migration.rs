//! A payment leaves the monolith: paid once through each home, and a whole ramp with restarts in the middle.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::checker::{Accepted, Ended};
use tests::load::{Client, Load, Plan};
use tests::{Binaries, Shop, Side, story, until};

use crate::faults::more;
use crate::handover::{count, paid};
use crate::orders::{order, place};
use crate::webhooks::until_all_taken;

const SOON: Duration = Duration::from_secs(30);
const SETTLED: Duration = Duration::from_secs(90);

/// Waits until a payment has a status, as its tenant reads it.
pub(crate) async fn until_status(client: &Client, payment: &str, status: &str) -> Result<()> {
    until(&format!("payment {payment} to be {status}"), SOON, async || {
        let answer = client.get(&format!("/v1/payments/{payment}")).await?;
        ensure!(answer.status == 200 && answer.text("status") == status, "{} {}", answer.status, answer.body);
        Ok(Some(()))
    })
    .await
}

/// Makes the side the home of all new payments. Its gates want to see a payment at the source first.
pub(crate) async fn born_at(shop: &Shop<'_>, side: Side, client: &Client) -> Result<Option<Accepted>> {
    if side == Side::Source {
        return Ok(None);
    }
    let body = order(client, "pm_card_visa", "automatic").await?;
    let first = place(client, "at-the-source", &body, Ended::Paid).await?;
    until_status(client, &first.payment, "captured").await?;
    let operator = shop.operator()?;
    operator.follow().await?;
    operator.ramp(100).await?;
    Ok(Some(first))
}

/// Gives a command and waits until it is answered.
pub(crate) async fn command(client: &Client, payment: &str, verb: &str, body: &Value) -> Result<()> {
    let key = format!("{verb}-{payment}");
    until(&format!("{verb} of {payment}"), SOON, async || {
        let answer = client.post(&format!("/v1/payments/{payment}/{verb}"), &key, body).await?;
        ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
        Ok(Some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_paid_once_through_each_home() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        shop.start_all(&["acme"], &[]).await?;
        let (client, operator) = (shop.client("acme")?, shop.operator()?);
        let automatic = order(&client, "pm_charged_no_answer", "automatic").await?;
        let manual = order(&client, "pm_card_visa", "manual").await?;

        let mut accepted = Vec::new();
        for home in ["source", "target"] {
            if home == "target" {
                operator.follow().await?;
                operator.ramp(100).await?;
            }
            let charged = place(&client, &format!("charged-{home}"), &automatic, Ended::Paid).await?;
            let captured = place(&client, &format!("captured-{home}"), &manual, Ended::Paid).await?;
            until_status(&client, &charged.payment, "captured").await?;
            command(&client, &charged.payment, "refunds", &json!({ "amount_minor": 100 })).await?;
            until_status(&client, &captured.payment, "authorized").await?;
            command(&client, &captured.payment, "capture", &json!({})).await?;
            for payment in [&charged.payment, &captured.payment] {
                assert_eq!(
                    operator.why(payment).await?.get("owner"),
                    Some(&json!(home)),
                    "payment {payment}"
                );
            }
            accepted.extend([charged, captured]);
        }

        shop.settle(SETTLED).await?;
        let findings = shop.check(accepted).await?;
        assert!(findings.holds(), "{findings}");
        assert_eq!(findings.paid, 4);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_of_all_orders_goes_to_the_service_only_once_the_way_back_was_drilled() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        // The stories' plan asks for no drill; this one asks as a plan does that says nothing.
        let plan = world.logs().join("migration.toml");
        let stories = std::fs::read_to_string(&plan)?;
        std::fs::write(&plan, stories.replace("first_ramp_percent_max = 100", "first_ramp_percent_max = 0"))?;
        shop.start_all(&["acme"], &[]).await?;
        let (client, operator) = (shop.client("acme")?, shop.operator()?);
        let mut accepted = paid(&client, "before", 1).await?;
        operator.follow().await?;
        operator.read(100).await?;
        let ramp = json!({ "to": "ramping", "percent": 1, "tenants": [] });
        let refused =
            shop.operator_client()?.post("/admin/migrations/payments/advance", "undrilled", &ramp).await?;
        let gates = refused.body["gates"].as_array().map(Vec::as_slice).unwrap_or_default();
        let drill = gates.iter().find(|gate| gate["name"] == "drill");
        let asked = drill.is_some_and(|gate| gate["verdict"] == "inconclusive");
        ensure!(refused.status == 409 && asked, "{} {}", refused.status, refused.body);

        let drilled = Box::pin(operator.drill("acme", paid(&client, "drill", 1))).await?;
        assert_eq!(operator.why(&drilled[0].payment).await?["owner"], json!("source"), "it came home");
        operator.ramp(100).await?;
        let there = paid(&client, "there", 1).await?;
        assert_eq!(operator.why(&there[0].payment).await?["owner"], json!("target"));

        accepted.extend([drilled, there].concat());
        shop.settle(SETTLED).await?;
        let findings = shop.check(accepted).await?;
        assert!(findings.holds(), "{findings}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_ramp_with_restarts_in_the_middle() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        let webhooks = shop.webhook_url();
        shop.start_all(&["acme", "globex"], &[("PROVIDER_WEBHOOK_URL", &webhooks)]).await?;
        let operator = shop.operator()?;
        let clients = vec![shop.client("acme")?, shop.client("globex")?];
        let load = Load::start(Plan { rate: 4, ..Plan::default() }, clients).await?;
        // A stage is over when this many more orders were accepted in it.
        more(&load, 20).await?;
        operator.follow().await?;
        more(&load, 20).await?;
        operator.ramp(50).await?;
        more(&load, 20).await?;
        // The service dies, and orders go on: half of them are its own to pay once it is back.
        let service = world.kill("payments-service").await?;
        more(&load, 20).await?;
        shop.start_ready(service).await?;
        more(&load, 20).await?;
        // The monolith is restarted in order; clients try again under their keys.
        let monolith = world.stop("monolith").await?;
        shop.start_ready(monolith).await?;
        operator.ramp(100).await?;
        more(&load, 20).await?;
        let status = operator.status().await?;
        ensure!(count(&status, "target") > 0, "nothing was born at the service: {status}");
        let says = operator.rollback().await?;
        ensure!(!says.is_empty(), "a rollback says what it means");
        more(&load, 20).await?;

        let tally = load.stop().await?;
        ensure!(tally.failures.is_empty(), "{tally}");
        shop.settle(SETTLED).await?;
        let findings = shop.check(tally.accepted).await?;
        assert!(findings.holds(), "{findings}");
        // Each payment was told of at least once, at whichever home it was by then.
        until_all_taken(&shop, i64::try_from(findings.accepted)?).await
    })
    .await;
}
