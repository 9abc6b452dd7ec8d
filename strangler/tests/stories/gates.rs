//! No data is never success.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use strangler::{Advance, Controller, Health, Settings, Stage, Verdict};

use crate::world::{SOON, World, eventually, following, gate, refusal, settings};

#[tokio::test]
async fn following_needs_a_metric_and_a_target_that_serves() {
    let world = World::new().await;
    let unplanned = Settings { plan: None, ..settings() };
    let controller = world.controller_of(Arc::new(world.shop.clone()), unplanned);
    let said = refusal(controller.advance(&Advance::to(Stage::Following), "a test").await);
    assert!(said.contains("gate `metric` of stage following failed") && said.contains("--metric"), "{said}");

    world.target.set_health(Some(Health::NotServing));
    let said = refusal(controller.advance(&following(), "a test").await);
    assert!(said.contains("gate `target_healthy` of stage following failed"), "{said}");

    world.target.set_health(None);
    let said = refusal(controller.advance(&following(), "a test").await);
    assert!(said.contains("is inconclusive: the target could not be asked"), "{said}");

    assert_eq!(stage(&controller).await, Stage::Local);
    assert_eq!(world.number("select count(*) from strangler.history").await, 1, "a refusal changes nothing");
    world.end().await;
}

#[tokio::test]
async fn shadowing_without_any_data_is_inconclusive() {
    let world = World::new().await;
    let controller = world.controller();
    controller.advance(&following(), "a test").await.unwrap();
    let said = refusal(controller.advance(&Advance::to(Stage::Shadowing), "a test").await);
    assert!(said.contains("inconclusive: no key was written yet"), "{said}");
    world.end().await;
}

#[tokio::test]
async fn ramping_needs_both_feeds_to_reach_what_was_written() {
    let world = World::new().await;
    let controller = world.controller();
    world.read(&controller).await;
    world.execute("update shop.payment set version = 3").await;

    world.shop.replica.apply("first", 3);
    world.target.apply("first", 2);
    let said = refusal(controller.advance(&Advance::ramp(1), "a test").await);
    assert!(said.contains("gate `feed` of stage ramping failed: 1 of 1 keys behind"), "{said}");

    world.target.apply("first", 3);
    world.target.publish("first", 3);
    world.shop.replica.apply("first", 2);
    let said = refusal(controller.advance(&Advance::ramp(1), "a test").await);
    assert!(said.contains("gate `reverse_feed` of stage ramping failed"), "{said}");

    world.shop.replica.apply("first", 3);
    world.target.set_parked(1);
    let said = refusal(controller.advance(&Advance::ramp(1), "a test").await);
    assert!(said.contains("1 events parked"), "{said}");

    world.target.set_parked(0);
    let step = controller.advance(&Advance::ramp(1), "a test").await.unwrap();
    assert!(step.gates.iter().all(|gate| gate.verdict == Verdict::Pass));
    world.end().await;
}

#[tokio::test]
async fn what_is_stuck_at_the_target_fails_the_reverse_feed() {
    let world = World::new().await;
    let controller = world.ramp(1).await;
    // The target's relay stands still: the source's tables and cursors agree with each other, and know nothing of it.
    world.born("a", "theirs").await;
    world.target.publish("theirs", 2);
    let said = refusal(controller.advance(&Advance::ramp(2), "a test").await);
    assert!(said.contains("gate `reverse_feed` of stage ramping failed: 1 of 1 keys behind"), "{said}");
    assert_eq!(controller.status().await.unwrap().reverse_feed.unwrap().behind, 1);

    world.shop.replica.apply("theirs", 2);
    let step = controller.advance(&Advance::ramp(2), "a test").await.unwrap();
    let found = &gate(&step, "reverse_feed").found;
    assert!(found.starts_with("all of 1 keys reached"), "{found}");
    world.end().await;
}

#[tokio::test]
async fn a_target_that_published_nothing_is_said_to_and_not_to_have_been_reached() {
    let world = World::new().await;
    let controller = world.controller();
    world.read(&controller).await;
    world.shop.replica.set_parked(1);
    let said = refusal(controller.advance(&Advance::ramp(1), "a test").await);
    assert!(said.contains("gate `reverse_feed` of stage ramping failed"), "{said}");

    world.shop.replica.set_parked(0);
    let step = controller.advance(&Advance::ramp(1), "a test").await.unwrap();
    let found = &gate(&step, "reverse_feed").found;
    assert!(found.contains("published nothing yet") && !found.contains("reached"), "{found}");
    world.end().await;
}

#[tokio::test]
async fn a_feed_that_catches_up_while_the_gate_looks_passes() {
    let world = World::new().await;
    // As long as the story takes to see the first look.
    let patient = Settings { feed_timeout: SOON, ..settings() };
    let controller = world.controller_of(Arc::new(world.shop.clone()), patient);
    world.read(&controller).await;
    world.execute("update shop.payment set version = 2").await;
    world.target.publish("first", 2);
    let before = world.shop.asked.load(Ordering::SeqCst);
    let step = Advance::ramp(10);
    let (step, ()) = tokio::join!(controller.advance(&step, "a test"), async {
        let looked = async || world.shop.asked.load(Ordering::SeqCst) > before;
        eventually("the gate has looked, and found the feed behind", looked).await;
        world.caught_up("first", 2);
    });
    assert!(world.shop.asked.load(Ordering::SeqCst) > before + 1, "it looked again");
    step.unwrap();
    world.end().await;
}

#[tokio::test]
async fn the_evidence_is_stored_with_the_change() {
    let world = World::new().await;
    world.ramp(5).await;
    let evidence: serde_json::Value =
        sqlx::query_scalar("select evidence from strangler.history order by revision desc limit 1")
            .fetch_one(&world.admin)
            .await
            .unwrap();
    let names: Vec<_> =
        evidence["gates"].as_array().unwrap().iter().map(|gate| gate["name"].as_str()).collect();
    for name in ["plan", "backfill", "parity", "target_healthy", "feed", "reverse_feed", "drill"] {
        assert!(names.contains(&Some(name)), "{names:?} lack {name}");
    }
    // What was kept is cited by its id, in the line and in the status.
    let id: String = sqlx::query_scalar("select id::text from strangler.evidence where verdict = 'pass'")
        .fetch_one(&world.admin)
        .await
        .unwrap();
    assert!(evidence["cites"].as_array().unwrap().contains(&serde_json::json!(id)), "{evidence}");
    let line = world.controller().status().await.unwrap().history.remove(0);
    assert!(line.cites.contains(&id), "{line:?}");
    let lifetime = evidence["expires_at"].as_i64().unwrap() - evidence["at"].as_i64().unwrap();
    assert_eq!(lifetime, 24 * 3600);
    world.end().await;
}

#[tokio::test]
async fn fewer_births_at_the_target_need_no_gate() {
    let world = World::new().await;
    let controller = world.ramp(50).await;
    world.target.set_health(None);
    refusal(controller.advance(&Advance::ramp(60), "a test").await);
    let step = controller.advance(&Advance::ramp(10), "a test").await.unwrap();
    assert!(step.gates.is_empty());
    controller.rollback(None, "a test").await.unwrap();
    world.end().await;
}

async fn stage(controller: &Controller) -> Stage {
    controller.status().await.unwrap().policy.stage
}
