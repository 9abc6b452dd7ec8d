//! Notices come doubled and reordered, and each finds its place.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::checker::Ended;
use tests::{Binaries, Shop, World, story, until};

use super::numbers::{named_in, received, shown};
use super::sender::{Sender, event};
use super::{SOON, books, intent_of, one_each, operator, until_all_taken, until_notice};
use crate::orders::{order, place};

/// How often the provider repeats a webhook that was taken.
const AGAIN: i64 = 2;

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
        let disorder = async |hold_ms: i64| {
            let wrong = json!({ "duplicate": AGAIN, "reverse": true, "hold_ms": hold_ms });
            let called = reqwest::Client::new().post(format!("http://{admin}/admin/webhooks")).json(&wrong);
            assert!(called.send().await?.status().is_success());
            Ok::<_, anyhow::Error>(())
        };
        // All are held, and then let go at once: the newest goes first.
        disorder(3_600_000).await?;

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
        disorder(0).await?;
        // Five payments, two of them refunded: each told something, and all of it was what the books have.
        until_all_taken(&shop, 7).await?;
        came_in_disorder(&shop, world).await?;
        let findings = shop.check(accepted).await?;
        assert!(findings.holds(), "{findings}");
        Ok(())
    })
    .await;
}

/// Each notice came again as often as it should, and one came before another that the provider made earlier.
async fn came_in_disorder(shop: &Shop<'_>, world: &World) -> Result<()> {
    until("every notice to come again", SOON, async || {
        let notices: i64 =
            sqlx::query_scalar("select count(*) from webhooks.notice").fetch_one(&shop.source).await?;
        let repeated = received(world, "monolith", "repeated").await?;
        ensure!(repeated >= AGAIN * notices, "{notices} notices, {repeated} repeats");
        Ok(Some(()))
    })
    .await?;
    // The provider's ids are in the order in which it made them.
    let sql = "select exists (select from webhooks.notice a join webhooks.notice b
                              on a.received_at < b.received_at and a.id > b.id)";
    let reordered: bool = sqlx::query_scalar(sql).fetch_one(&shop.source).await?;
    ensure!(reordered, "every notice came in its order");
    Ok(())
}
