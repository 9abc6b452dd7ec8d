//! A notice that was taken is kept until its payment's owner has it: the owner may be dead, the payment unknown, the process killed.

use std::os::unix::process::ExitStatusExt;

use anyhow::ensure;
use tests::checker::Ended;
use tests::{Binaries, Shop, story, until};
use uuid::Uuid;

use super::sender::{Sender, event};
use super::{SOON, books, intent_of, notice, one_each, operator, until_notice};
use crate::migration::until_status;
use crate::orders::{order, place};

const SIGABRT: i32 = 6;

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
