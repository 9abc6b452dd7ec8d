//! What can't move now stays, with the reason, and keeps no other key: a refund without an outcome, an event that is parked. A webhook
//! without a place keeps nothing: it finds its payment wherever that is by then.

use anyhow::{Result, ensure};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgPool};
use tests::checker::{Accepted, Ended};
use tests::load::Client;
use tests::{Binaries, Process, Shop, World, story, until};

use super::{MOVED, SETTLED, SOON};
use crate::handover::{count, none_is_pinned, paid, refund_once, until_all_at};
use crate::migration::{command, until_status};
use crate::orders::{order, place};
use crate::webhooks::{Sender, event, until_notice};

const UNPLACED: &str = "evt_unplaced";

/// Lets the orders' follower refuse what it is told of one order.
async fn refuse(source: &PgPool, order: &str) -> Result<()> {
    let order: uuid::Uuid = order.parse()?;
    let sql = format!(
        "create function public.refuse() returns trigger language plpgsql as
             $$ begin raise exception 'a test refuses this order'; end $$;
         create trigger refuse before update on orders.orders for each row
             when (new.id = '{order}') execute function public.refuse()"
    );
    // The text has an id in it, and a trigger takes no parameter.
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(source).await?;
    Ok(())
}

async fn take_again(source: &PgPool) -> Result<()> {
    let sql = "drop trigger refuse on orders.orders; drop function public.refuse()";
    sqlx::raw_sql(sql).execute(source).await?;
    Ok(())
}

/// Waits until an event of the payment is parked at the source.
async fn until_parked(source: &PgPool, payment: &str) -> Result<()> {
    until("its event to be parked", SOON, async || {
        let sql = "select count(*) from outbox.parked where key = $1 and handler = 'orders.follow_payment'";
        let parked: i64 = sqlx::query_scalar(sql).bind(payment).fetch_one(source).await?;
        Ok((parked > 0).then_some(()))
    })
    .await
}

/// A payment at the source with a webhook that came before the payment's first event, and waited for too long.
async fn unplaced(world: &World, shop: &Shop<'_>, client: &Client) -> Result<Accepted> {
    let relay = world.stop("relay").await?;
    let body = order(client, "pm_card_visa", "automatic").await?;
    let placed = place(client, "unplaced", &body, Ended::Paid).await?;
    Sender::new(shop).taken(&event(UNPLACED, "payment_intent.processing", &placed.payment, "pi_any")).await?;
    until_notice(shop, UNPLACED, "unplaced").await?;
    shop.start_ready(relay).await?;
    until_status(client, &placed.payment, "captured").await?;
    Ok(placed)
}

/// The whole shop, with a relay that can be stopped by itself, and little patience for webhooks without a place.
async fn start(shop: &Shop<'_>) -> Result<()> {
    shop.migrate(&["acme"]).await?;
    shop.start_provider(&[]).await?;
    let mut monolith = shop.running_monolith("monolith", "web,inbox,controller");
    monolith.env.push(("MONOLITH_WEBHOOKS_UNPLACED_AFTER".into(), "1s".into()));
    shop.start_ready(monolith).await?;
    shop.start_monolith("relay", "relay").await?;
    shop.start_service("payments-service", "all").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_move_stays_with_its_reason_and_all_others_go() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        start(&shop).await?;
        let (operator, client) = (shop.operator()?, shop.client("acme")?);
        let mut accepted = paid(&client, "before", 6).await?;
        let unknown = accepted[0].payment.clone();
        let manual = order(&client, "pm_card_visa", "manual").await?;
        let parked = place(&client, "parked", &manual, Ended::Paid).await?;
        until_status(&client, &parked.payment, "authorized").await?;
        let moved = unplaced(world, &shop, &client).await?;
        operator.follow().await?;
        operator.ramp(100).await?;
        accepted.extend(paid(&client, "at-the-target", 2).await?);

        refuse(&shop.source, &parked.order).await?;
        command(&client, &parked.payment, "capture", &json!({})).await?;
        until_parked(&shop.source, &parked.payment).await?;
        let provider = world.kill("provider").await?;
        // It is taken, and nobody knows its outcome.
        refund_once(&client, &unknown, 202).await?;
        operator.primary().await?;
        let why = [
            (unknown.as_str(), "a refund is under way"),
            (parked.payment.as_str(), "an event of it is parked (handler orders.follow_payment)"),
        ];
        until("two payments to stay and all others to go", MOVED, async || {
            let (status, pinned) = (operator.status().await?, operator.pinned().await?);
            // Of those one stays, and one goes that is not among them.
            let gone = i64::try_from(accepted.len())?;
            ensure!(count(&status, "target") == gone && status["pinned"] == 2, "{status} {pinned}");
            for (key, why) in why {
                let keys = pinned["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
                ensure!(keys.iter().any(|it| it["key"] == key && it["why"] == why), "{key}: {pinned}");
            }
            Ok(Some(()))
        })
        .await?;
        assert_eq!(
            operator.why(&moved.payment).await?["owner"],
            json!("target"),
            "a notice keeps no payment"
        );

        // Each goes as soon as its reason does.
        take_again(&shop.source).await?;
        world.start(provider).await?;
        until_all_at(&operator, "target").await?;
        none_is_pinned(&operator).await?;
        command(&client, &unknown, "refunds", &json!({ "amount_minor": 100 })).await?;
        let spec = shop.monolith_spec("operator", &["webhooks", "retry", UNPLACED]);
        let (status, said) = Process::run(&spec, SOON).await?;
        ensure!(status.success(), "{status}\n{said}");
        until_notice(&shop, UNPLACED, "applied").await?;

        accepted.extend([parked, moved]);
        shop.settle(SETTLED).await?;
        let findings = shop.check(accepted).await?;
        assert!(findings.holds(), "{findings}");
        Ok(())
    })
    .await;
}
