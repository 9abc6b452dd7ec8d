//! A source that is sealed: it goes on selling, and writes no payment.

use std::time::Duration;

use anyhow::{Result, ensure};
use chassis::Role;
use serde_json::json;
use tests::checker::{self, Accepted};
use tests::load::Client;
use tests::{Binaries, Shop, Side, story, until};

use crate::handover::{paid, until_all_at};
use crate::migration::command;

const SOON: Duration = Duration::from_secs(60);
const SETTLED: Duration = Duration::from_secs(90);
const TOKEN_LIFETIME: Duration = Duration::from_secs(600);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_source_goes_on_selling_and_writes_no_payment() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        let accepted = all_at_the_target(&shop).await?;
        let (operator, client) = (shop.operator()?, shop.client("acme")?);

        seal(&shop).await?;
        let copied = payments_at_source(&shop).await?;
        // What runs ends in order, and what starts again does not begin. A deployment migrates first, which grants nothing back.
        let monolith = world.stop("monolith").await?;
        shop.migrate_one(Side::Source, &[]).await?;
        shop.start_ready(monolith).await?;

        let after = paid(&client, "after", 5).await?;
        command(&client, &accepted[0].payment, "refunds", &json!({ "amount_minor": 100 })).await?;
        let list = client.get("/v1/payments?limit=200").await?;
        let listed = list.body["payments"].as_array().map_or(0, Vec::len);
        ensure!((list.status, listed) == (200, accepted.len() + after.len()), "{}", list.body);
        assert_eq!(payments_at_source(&shop).await?, copied, "its copy stands still");
        let next = operator.status().await?["next"].clone();
        ensure!(next["gate"] == json!("verify") && next["verdict"] == json!("fail"), "{next}");
        ensure!(
            next["found"].as_str().is_some_and(|found| found.contains(" may select payments.")),
            "{next}"
        );
        until_right(&shop, &[accepted, after].concat()).await
    })
    .await;
}

/// A shop in `primary` whose payments are all the service's, among them some from before; what was accepted.
pub(crate) async fn all_at_the_target(shop: &Shop<'_>) -> Result<Vec<Accepted>> {
    let webhooks = shop.webhook_url();
    shop.start_all(&["acme"], &[("PROVIDER_WEBHOOK_URL", &webhooks)]).await?;
    let (operator, client) = (shop.operator()?, shop.client("acme")?);
    let mut accepted = paid(&client, "before", 5).await?;
    operator.follow().await?;
    operator.ramp(100).await?;
    accepted.extend(paid(&client, "ramped", 5).await?);
    operator.primary().await?;
    until_all_at(&operator, "target").await?;
    shop.settle(SETTLED).await?;
    let findings = shop.check(accepted.clone()).await?;
    ensure!(findings.holds(), "{findings}");
    Ok(accepted)
}

/// Waits until the checker finds nothing. The source's copy stands still, or is gone: its balances are taken for the target's.
pub(crate) async fn until_right(shop: &Shop<'_>, accepted: &[Accepted]) -> Result<()> {
    until("the checker to find nothing", SETTLED, async || {
        let mut evidence = shop.evidence(accepted.to_vec()).await?;
        evidence.source.payments.clone_from(&evidence.target.payments);
        evidence.source.postings.clone_from(&evidence.target.postings);
        evidence.source.answers.clone_from(&evidence.target.answers);
        let findings = checker::check(&evidence);
        ensure!(findings.holds(), "{findings}");
        Ok(Some(()))
    })
    .await
}

/// Two people are for it, and one of them does it once its gates pass.
pub(crate) async fn seal(shop: &Shop<'_>) -> Result<()> {
    let people = people(shop)?;
    approve(&people, "sealed").await?;
    let [(_, ada), _] = &people;
    until("the source to be sealed", SOON, async || {
        let step = json!({ "to": "sealed" });
        let answer = ada.post("/admin/migrations/payments/advance", "seal", &step).await?;
        ensure!(answer.status == 200, "{}", answer.body);
        Ok(Some(()))
    })
    .await
}

/// Two operators, each with a token of their own.
pub(crate) fn people(shop: &Shop<'_>) -> Result<[(&'static str, Client); 2]> {
    let person = |name: &'static str| -> Result<(&'static str, Client)> {
        let token =
            shop.issuer().issue(name, "operations", &[Role::Operator], tests::MONOLITH, TOKEN_LIFETIME)?;
        Ok((name, shop.operator_client()?.with_token(token)))
    };
    Ok([person("ada")?, person("bea")?])
}

/// Both are for a stage.
pub(crate) async fn approve(people: &[(&'static str, Client); 2], stage: &str) -> Result<()> {
    for (name, person) in people {
        let approval = json!({ "stage": stage, "reason": "all payments are at the service" });
        let answer =
            person.post("/admin/migrations/payments/approve", &format!("{name}-{stage}"), &approval).await?;
        ensure!(answer.status == 200, "{}", answer.body);
    }
    Ok(())
}

/// How many there are, and what was written to them last.
async fn payments_at_source(shop: &Shop<'_>) -> Result<(i64, i64)> {
    let sql = "select count(*), coalesce(sum(version), 0)::bigint from payments.payment";
    Ok(sqlx::query_as(sql).fetch_one(&shop.source).await?)
}
