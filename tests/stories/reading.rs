//! The target's answers are compared, then shown to a cohort: a difference stops the walk, and no caller sees less than it has written.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::checker::Ended;
use tests::load::{Load, Plan};
use tests::{Binaries, Operator, Shop, story, until};

use crate::migration::{command, until_status};
use crate::orders::{order, place};

const SOON: Duration = Duration::from_secs(30);
const SETTLED: Duration = Duration::from_secs(90);

/// What was counted of a class since a stage was entered.
async fn counted(shop: &Shop<'_>, class: &str) -> Result<i64> {
    let sql = "select coalesce(sum(count), 0)::bigint from strangler.read_comparison where class = $1";
    Ok(sqlx::query_scalar(sql).bind(class).fetch_one(&shop.source).await?)
}

/// The gate `reads` as the plan finds it.
async fn reads(operator: &Operator) -> Result<Value> {
    let plan = operator.plan().await?;
    let gates = plan.pointer("/next/gates").and_then(Value::as_array).cloned().unwrap_or_default();
    Ok(gates.into_iter().find(|gate| gate["name"] == "reads").unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_wrong_cent_at_the_target_stops_the_walk_and_no_caller_sees_it() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        shop.start_all(&["acme"], &[]).await?;
        let (client, operator) = (shop.client("acme")?, shop.operator()?);
        let body = order(&client, "pm_card_visa", "automatic").await?;
        let paid = place(&client, "compared", &body, Ended::Paid).await?;
        until_status(&client, &paid.payment, "captured").await?;
        operator.follow().await?;
        operator.shadow().await?;

        sqlx::query("update payments.payment set captured_minor = captured_minor - 1 where id = $1::uuid")
            .bind(&paid.payment)
            .execute(&shop.target)
            .await?;
        let path = format!("/v1/payments/{}", paid.payment);
        until("the wrong cent to be found", SOON, async || {
            let shown = client.get(&path).await?;
            ensure!(shown.body["captured_minor"] == shown.body["authorized_minor"], "{}", shown.body);
            Ok((counted(&shop, "money").await? > 0).then_some(()))
        })
        .await?;
        let gate = reads(&operator).await?;
        ensure!(gate["verdict"] == "fail", "{gate}");
        let sql = "select count(*) from strangler.read_sample where class = 'money' and key = $1";
        let samples: i64 = sqlx::query_scalar(sql).bind(&paid.payment).fetch_one(&shop.source).await?;
        ensure!(samples > 0, "a difference is kept to look at");

        shop.settle(SETTLED).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cohort_reads_its_own_writes_from_the_target() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        shop.start_all(&["acme", "globex"], &[]).await?;
        let (client, operator) = (shop.client("acme")?, shop.operator()?);
        let load = Load::start(Plan { rate: 5, ..Plan::default() }, vec![shop.client("globex")?]).await?;
        let body = order(&client, "pm_card_visa", "automatic").await?;
        let mut accepted = Vec::new();
        for number in 0..10 {
            let paid = place(&client, &format!("read-{number}"), &body, Ended::Paid).await?;
            until_status(&client, &paid.payment, "captured").await?;
            accepted.push(paid);
        }
        operator.follow().await?;
        operator.shadow().await?;
        until("a read to be compared", SOON, async || {
            client.get(&format!("/v1/payments/{}", accepted[0].payment)).await?;
            Ok((counted(&shop, "equal").await? > 0).then_some(()))
        })
        .await?;
        operator.read(100).await?;
        until("the target to answer reads", SOON, async || {
            client.get(&format!("/v1/payments/{}", accepted[0].payment)).await?;
            Ok((counted(&shop, "copy").await? > 0).then_some(()))
        })
        .await?;

        for paid in &accepted {
            command(&client, &paid.payment, "refunds", &json!({ "amount_minor": 1 })).await?;
            let shown = client.get(&format!("/v1/payments/{}", paid.payment)).await?;
            ensure!(
                shown.status == 200 && shown.body["refunded_minor"] == 1,
                "{} {}",
                shown.status,
                shown.body
            );
        }
        // Without the service the source answers, and nobody is told.
        let service = world.kill("payments-service").await?;
        for paid in &accepted {
            let shown = client.get(&format!("/v1/payments/{}", paid.payment)).await?;
            ensure!(
                shown.status == 200 && shown.body["refunded_minor"] == 1,
                "{} {}",
                shown.status,
                shown.body
            );
        }
        shop.start_ready(service).await?;
        operator.rollback().await?;

        let tally = load.stop().await?;
        ensure!(tally.failures.is_empty(), "{tally}");
        shop.settle(SETTLED).await?;
        let findings = shop.check([accepted, tally.accepted].concat()).await?;
        assert!(findings.holds(), "{findings}");
        Ok(())
    })
    .await;
}
