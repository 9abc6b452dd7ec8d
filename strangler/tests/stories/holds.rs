//! A hold stops what it must, and lifting it lets exactly that go on.

use strangler::{Advance, Controller, Home, PolicyView, Stage, Verdict};

use crate::forward::running;
use crate::seeding::old_payments;
use crate::stages::with_plan;
use crate::world::{PLAN, World, eventually, following, gate, refusal};

const WHY: &str = "numbers look odd";

async fn policy(controller: &Controller) -> PolicyView {
    controller.status().await.unwrap().policy
}

async fn hold(controller: &Controller) {
    controller.hold(WHY, "a test").await.unwrap();
}

async fn lift(controller: &Controller) {
    let step = controller.advance(&Advance::resume(), "a test").await.unwrap();
    assert!(step.entered && step.gates.is_empty(), "{step:?}");
}

async fn leads(controller: &Controller) {
    eventually("it leads", async || controller.status().await.unwrap().controller.is_some()).await;
}

/// Holds the migration where it stands and lifts that: all else is as it was.
async fn held_and_lifted(controller: &Controller, stage: Stage) {
    let before = policy(controller).await;
    assert_eq!(before.stage, stage);
    hold(controller).await;
    let said = refusal(controller.advance(&Advance::to(stage), "a test").await);
    assert!(said.contains(WHY) && said.contains("`banyan advance --resume`"), "{said}");
    lift(controller).await;
    let after = policy(controller).await;
    assert_eq!(after, PolicyView { revision: before.revision + 2, ..before });
    let said = refusal(controller.advance(&Advance::resume(), "a test").await);
    assert!(said.contains("the migration is not held"), "{said}");
}

#[tokio::test]
async fn a_hold_is_lifted_in_each_stage_without_another_step() {
    let world = World::new().await;
    let controller = world.controller();
    held_and_lifted(&controller, Stage::Local).await;
    world.shadow(&controller).await;
    held_and_lifted(&controller, Stage::Shadowing).await;
    controller.rollback(None, "a test").await.unwrap();
    held_and_lifted(&controller, Stage::Following).await;
    world.read_again(&controller).await;
    held_and_lifted(&controller, Stage::Reading).await;
    controller.advance(&Advance::ramp(100), "a test").await.unwrap();
    held_and_lifted(&controller, Stage::Ramping).await;
    world.target.publish("first", 1);
    controller.advance(&Advance::to(Stage::Primary), "a test").await.unwrap();
    held_and_lifted(&controller, Stage::Primary).await;
    // What is being rolled back still is.
    world.born("a", "theirs").await;
    assert!(controller.rollback(None, "a test").await.unwrap().draining);
    held_and_lifted(&controller, Stage::Primary).await;
    assert!(policy(&controller).await.draining);
    world.end().await;
}

#[tokio::test]
async fn keys_leave_the_source_again_once_a_hold_in_primary_is_lifted() {
    let world = World::new().await;
    let controller = world.primary(&["a", "b"]).await;
    hold(&controller).await;
    let (relay, acting) = (world.relay(), running(&controller));
    leads(&controller).await;
    assert_eq!(world.owner("a").await.home, Home::Source);
    lift(&controller).await;
    for key in ["a", "b", "first"] {
        world.settled(key, Home::Target).await;
    }
    acting.abort();
    relay.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_backfill_goes_on_once_a_hold_in_following_is_lifted() {
    let world = World::new().await;
    old_payments(&world).await;
    let controller = world.controller();
    controller.advance(&following(), "a test").await.unwrap();
    hold(&controller).await;
    let (relay, acting) = (world.relay(), running(&controller));
    leads(&controller).await;
    let done = async || controller.status().await.unwrap().backfill.unwrap().done_at.is_some();
    assert!(!done().await);
    lift(&controller).await;
    eventually("the backfill is done", done).await;
    acting.abort();
    relay.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_cycle_that_was_held_or_drained_counts_from_its_end() {
    let world = World::new().await;
    world.primary(&[]).await;
    let controller = with_plan(&world, &PLAN.replace("cycle_seconds = 1", "cycle_seconds = 604800"));
    let eight_days_go_by = async || {
        world.execute("update strangler.history set at = at - interval '8 days'").await;
    };
    let cycle = async || {
        let look = Advance { dry_run: true, resume: true, ..Advance::to(Stage::Sealed) };
        gate(&controller.advance(&look, "a test").await.unwrap(), "cycle").clone()
    };
    eight_days_go_by().await;
    assert_eq!(cycle().await.verdict, Verdict::Pass);

    hold(&controller).await;
    eight_days_go_by().await;
    let held = cycle().await;
    assert_eq!(held.verdict, Verdict::Inconclusive, "{held:?}");
    assert!(held.found.contains("is held"), "{held:?}");
    lift(&controller).await;
    assert_eq!(cycle().await.verdict, Verdict::Inconclusive, "it begins when the hold is lifted");
    eight_days_go_by().await;
    assert_eq!(cycle().await.verdict, Verdict::Pass);

    // One key keeps the rollback from its end for as long as a cycle lasts.
    world.born("a", "theirs").await;
    assert!(controller.rollback(None, "a test").await.unwrap().draining);
    eight_days_go_by().await;
    controller.advance(&Advance::to(Stage::Primary), "a test").await.unwrap();
    assert_eq!(cycle().await.verdict, Verdict::Inconclusive, "it begins when the stage is entered again");
    // A repair changes no policy.
    eight_days_go_by().await;
    controller.repair(&["first".to_owned()], "a test").await.unwrap();
    assert_eq!(cycle().await.verdict, Verdict::Pass);
    world.end().await;
}
