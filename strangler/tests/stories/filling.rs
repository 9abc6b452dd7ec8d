//! What the target lacks is published by the source; copies are compared, and mended by their owner.

use std::sync::Arc;
use std::time::Duration;

use strangler::{Advance, Again, Backfill, Controller, Epoch, Error, Health, Home, Settings, Stage, Verdict};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::forward::running;
use crate::odd::{Odd, Oddity};
use crate::seeding::old_payments;
use crate::world::{SOON, World, eventually, following, gate, refusal, settings};

async fn backfill(controller: &Controller) -> Backfill {
    controller.status().await.unwrap().backfill.unwrap()
}

async fn until_done(controller: &Controller) {
    eventually("the backfill is done", async || backfill(controller).await.done_at.is_some()).await;
}

/// Enters `following` with 2,300 payments of which the target knows nothing.
async fn old(world: &World) -> Controller {
    old_payments(world).await;
    let controller = world.controller();
    controller.advance(&following(), "a test").await.unwrap();
    controller
}

fn named(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

#[tokio::test]
async fn a_backfill_publishes_what_the_target_lacks_and_a_last_walk_finds_none() {
    let world = World::new().await;
    let controller = old(&world).await;
    assert_eq!((backfill(&controller).await.done, backfill(&controller).await.done_at), (0, None));
    let shadowing = Advance::to(Stage::Shadowing);
    let look = Advance { dry_run: true, ..shadowing.clone() };
    let step = controller.advance(&look, "a test").await.unwrap();
    assert_eq!(gate(&step, "backfill").verdict, Verdict::Inconclusive);

    let (relay, acting) = (world.relay(), running(&controller));
    until_done(&controller).await;
    let Backfill { walk, done, of, published, skipped, .. } = backfill(&controller).await;
    assert_eq!((walk, done, of, published, skipped), (2, 2_300, 2_300, 2_300, 0));
    assert_eq!(world.number("select count(distinct key) from shop.snapshot").await, 2_300);

    let parity = controller.parity("a test").await.unwrap();
    assert_eq!((parity.verdict, parity.compared, parity.equal), (Verdict::Pass, 2_300, 2_300), "{parity:?}");
    let step = controller.advance(&shadowing, "a test").await.unwrap();
    assert!(step.entered);
    acting.abort();
    relay.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_domain_that_can_not_be_asked_stops_no_backfill() {
    for call in ["broken", "keys", "beat"] {
        let world = World::new().await;
        let controller = old(&world).await;
        let asked = Arc::new(Notify::new());
        let silent = Odd::new(&world, Oddity::DiesAt(call, Arc::clone(&asked)));
        let settings = Settings { ask_timeout: Duration::from_millis(500), ..settings() };
        let (relay, acting) = (world.relay(), running(&world.controller_of(silent, settings)));
        until_done(&controller).await;
        timeout(SOON, asked.notified()).await.unwrap();
        acting.abort();
        relay.end().await;
        world.end().await;
    }
}

#[tokio::test]
async fn a_domain_that_does_not_tell_its_keys_is_held_for_a_broken_invariant() {
    let world = World::new().await;
    let controller = world.controller();
    world.follow(&controller).await;
    world.shop.set_broken(Some("a cent is missing"));
    let asked = Arc::new(Notify::new());
    let silent = Odd::new(&world, Oddity::DiesAt("keys", Arc::clone(&asked)));
    let settings = Settings { ask_timeout: Duration::from_millis(500), ..settings() };
    let acting = running(&world.controller_of(silent, settings));
    timeout(SOON, asked.notified()).await.unwrap();
    let held = async || controller.status().await.unwrap().policy.held;
    eventually("it is held", async || held().await.as_deref() == Some("a cent is missing")).await;
    acting.abort();
    world.end().await;
}

#[tokio::test]
async fn a_backfill_whose_controller_dies_is_ended_by_the_next_one() {
    let world = World::new().await;
    let controller = old(&world).await;
    let (relay, acting) = (world.relay(), running(&controller));
    eventually("it is under way", async || backfill(&controller).await.done >= 400).await;
    acting.abort();
    assert!(acting.await.is_err());
    let done = backfill(&controller).await;
    assert_eq!(done.done_at, None);

    let next = world.controller();
    let acting = running(&next);
    until_done(&next).await;
    assert_eq!(backfill(&next).await.begun_at, done.begun_at, "it was not begun again");
    // At most the page under way was published twice.
    assert!(world.number("select count(*) from shop.snapshot").await <= 2_500);
    acting.abort();
    relay.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_key_that_someone_holds_is_named_and_published_by_a_later_walk() {
    let world = World::new().await;
    let controller = old(&world).await;
    let mut held = world.admin.begin().await.unwrap();
    sqlx::query("select from shop.payment where key = 'old-77' for update")
        .execute(&mut *held)
        .await
        .unwrap();
    let (relay, acting) = (world.relay(), running(&controller));
    eventually("it is named", async || {
        let waits = backfill(&controller).await.waits;
        waits.as_deref() == Some("old-77: someone holds it")
    })
    .await;
    held.rollback().await.unwrap();
    until_done(&controller).await;
    assert_eq!(world.number("select count(*) from shop.snapshot where key = 'old-77'").await, 1);
    acting.abort();
    relay.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_key_that_can_not_be_published_is_named_and_keeps_no_other_waiting() {
    let world = World::new().await;
    let controller = old(&world).await;
    let poisoned = Odd::new(&world, Oddity::Poisons("old-300"));
    let (relay, acting) = (world.relay(), running(&world.controller_of(poisoned, settings())));
    eventually("all others are published", async || {
        world.number("select count(distinct key) from shop.snapshot").await == 2_299
    })
    .await;
    eventually("it is named", async || {
        let waits = backfill(&controller).await.waits.unwrap_or_default();
        waits.starts_with("old-300: ") && waits.contains("makes no sense")
    })
    .await;
    assert_eq!(backfill(&controller).await.done_at, None);
    acting.abort();
    relay.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_target_that_applies_nothing_gets_one_page_and_no_more() {
    let world = World::new().await;
    let controller = old(&world).await;
    let relay = world.relay();
    relay.stand_still(true);
    let acting = running(&controller);
    let still = "the target has not applied what was published";
    eventually("it says so", async || backfill(&controller).await.waits.as_deref() == Some(still)).await;
    // Said after one `feed_timeout`. A few more looks publish nothing.
    let asked = world.target.asked_known();
    eventually("it is asked again", async || world.target.asked_known() >= asked + 10).await;
    assert_eq!(world.number("select count(*) from shop.snapshot").await, 200);

    relay.stand_still(false);
    until_done(&controller).await;
    assert_eq!(backfill(&controller).await.waits, None);
    assert_eq!(world.number("select count(*) from shop.snapshot").await, 2_300, "each once");
    acting.abort();
    relay.end().await;
    world.end().await;
}

#[tokio::test]
async fn trouble_with_the_hand_over_keeps_no_backfill_waiting() {
    let world = World::new().await;
    let controller = world.primary(&["k"]).await;
    world.target.set_health(Some(Health::NotServing));
    let acting = running(&controller);
    controller.begin_backfill(Again::Yes, "a test").await.unwrap();
    until_done(&controller).await;
    assert_eq!(world.owner("k").await.epoch, Epoch::BIRTH, "no key left meanwhile");
    acting.abort();
    world.end().await;
}

#[tokio::test]
async fn a_backfill_is_begun_again_on_demand_and_not_in_local() {
    let world = World::new().await;
    let controller = world.controller();
    let said = refusal(controller.begin_backfill(Again::Yes, "a test").await);
    assert!(said.contains("nothing to fill"), "{said}");
    world.follow(&controller).await;
    let first = backfill(&controller).await;
    assert_eq!(controller.begin_backfill(Again::No, "a test").await.unwrap(), first);

    world.target.lose("first");
    let again = controller.begin_backfill(Again::Yes, "someone").await.unwrap();
    assert_eq!((again.done_at, again.asked_by.as_str()), (None, "someone"));
    let (relay, acting) = (world.relay(), running(&controller));
    until_done(&controller).await;
    assert_eq!(backfill(&controller).await.published, 1);
    // What was compared before that shows nothing any more.
    let look = Advance { dry_run: true, ..Advance::to(Stage::Shadowing) };
    let step = controller.advance(&look, "a test").await.unwrap();
    let parity = gate(&step, "parity");
    assert_eq!(parity.verdict, Verdict::Inconclusive);
    assert!(parity.found.contains("began before the end of the backfill"), "{}", parity.found);
    acting.abort();
    relay.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_copy_that_differs_is_named_fails_the_gate_and_is_mended_by_its_owner() {
    let world = World::new().await;
    let controller = world.ramp(0).await;
    world.target.alter("first", [1; 32]);
    let parity = controller.parity("a test").await.unwrap();
    assert_eq!(
        (parity.verdict, parity.different.keys, parity.bound),
        (Verdict::Fail, named(&["first"]), None)
    );
    let said = refusal(controller.advance(&Advance::ramp(1), "a test").await);
    assert!(said.contains("gate `parity` of stage ramping failed: 1 of 1 keys differ"), "{said}");
    assert!(said.contains("banyan repair"), "{said}");

    let before = controller.status().await.unwrap().policy;
    let repaired = controller.repair(&named(&["first"]), "someone").await.unwrap();
    assert_eq!(controller.status().await.unwrap().policy, before, "the policy is as it was, and as old");
    assert!(repaired.left.is_empty(), "{repaired:?}");
    assert_eq!(repaired.published, named(&["first"]));
    let line = controller.status().await.unwrap().history.remove(0);
    assert_eq!(
        (line.action.as_str(), line.by.as_str(), line.revision),
        ("repair", "someone", repaired.revision)
    );
    let relay = world.relay();
    eventually("the copy is its owner's", async || {
        controller.parity("a test").await.unwrap().verdict == Verdict::Pass
    })
    .await;
    assert!(controller.advance(&Advance::ramp(1), "a test").await.unwrap().entered);
    relay.end().await;
    world.end().await;
}

#[tokio::test]
async fn each_key_is_repaired_by_its_owner() {
    let world = World::new().await;
    let controller = world.ramp(100).await;
    assert_eq!(world.born("a", "theirs").await, Home::Target);
    let repaired = controller.repair(&named(&["theirs", "never", "first"]), "a test").await.unwrap();
    assert_eq!(repaired.published, named(&["theirs", "first"]));
    assert_eq!((repaired.left[0].key.as_str(), repaired.left.len()), ("never", 1));
    assert_eq!(world.target.take_repaired(), named(&["theirs"]));
    assert_eq!(world.number("select count(*) from shop.snapshot where key = 'first'").await, 1);

    world.target.set_health(None);
    let repaired = controller.repair(&named(&["theirs"]), "a test").await.unwrap();
    assert!(repaired.left[0].why.contains("can't be reached"), "{repaired:?}");
    for keys in [named(&[]), vec!["k".to_owned(); 2], (0..101).map(|n| n.to_string()).collect()] {
        let refused = controller.repair(&keys, "a test").await;
        assert!(matches!(refused, Err(Error::Invalid { field: "keys", .. })), "{refused:?}");
    }
    world.end().await;
}

#[tokio::test]
async fn a_comparison_that_is_cut_short_says_how_far_it_came() {
    let world = World::new().await;
    world.ramp(0).await;
    world.born("a", "lost").await;
    world.target.lose("lost");
    let hasty = Settings { parity_timeout: Duration::from_millis(300), ..settings() };
    let controller = world.controller_of(Arc::new(world.shop.clone()), hasty);
    let parity = controller.parity("a test").await.unwrap();
    assert_eq!((parity.verdict, parity.compared, parity.complete), (Verdict::Inconclusive, 1, false));
    assert_eq!(parity.unsettled.keys, named(&["lost"]));

    world.target.set_health(Some(Health::Serving));
    world.target.snapshot("lost", 1);
    assert_eq!(controller.parity("a test").await.unwrap().verdict, Verdict::Pass);
    world.target.set_health(None);
    let parity = controller.parity("a test").await.unwrap();
    assert_eq!((parity.verdict, parity.compared), (Verdict::Inconclusive, 0));
    assert!(parity.found.contains("can't be reached"), "{}", parity.found);
    world.end().await;
}

#[tokio::test]
async fn a_comparison_whose_controller_dies_has_no_result_and_is_made_again() {
    let world = World::new().await;
    // One has passed on the way, and must not stand for the one that never ended.
    world.ramp(0).await;
    let reached = Arc::new(Notify::new());
    let dying =
        world.controller_of(Odd::new(&world, Oddity::DiesAt("copies", Arc::clone(&reached))), settings());
    let comparing = tokio::spawn(async move { dying.parity("ada").await });
    timeout(SOON, reached.notified()).await.unwrap();
    comparing.abort();
    assert!(comparing.await.is_err());

    let next = world.controller();
    let said = refusal(next.advance(&Advance::ramp(1), "a test").await);
    let rule =
        "gate `parity` of stage ramping is inconclusive: the comparison that ada asked for has no result yet";
    assert!(said.contains(rule) && said.contains("`banyan parity` compares"), "{said}");
    // Once it can't be under way any more.
    let over = "update strangler.evidence set expires_at = clock_timestamp()
                where inputs ->> 'unfinished' = 'true' and inputs ->> 'asked_by' = 'ada'";
    assert_eq!(world.execute(over).await, 1);
    let said = refusal(next.advance(&Advance::ramp(1), "a test").await);
    assert!(said.contains("has no result: it was ended with its process"), "{said}");

    assert_eq!(next.parity("ada").await.unwrap().verdict, Verdict::Pass);
    assert!(next.advance(&Advance::ramp(1), "a test").await.unwrap().entered);
    world.end().await;
}

#[tokio::test]
async fn a_comparison_takes_smaller_pages_when_one_takes_too_long() {
    let world = World::new().await;
    world.ramp(0).await;
    for n in 0..40 {
        world.born("a", &format!("k{n}")).await;
    }
    // All 41 take 410 ms, more than one question may.
    let slow = Odd::new(&world, Oddity::ReadsSlowly(Duration::from_millis(10)));
    let hasty = Settings { ask_timeout: Duration::from_millis(300), ..settings() };
    let parity = world.controller_of(slow, hasty).parity("a test").await.unwrap();
    assert_eq!((parity.verdict, parity.compared, parity.complete), (Verdict::Pass, 41, true), "{parity:?}");
    world.end().await;
}
