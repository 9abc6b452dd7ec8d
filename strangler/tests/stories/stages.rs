//! The stages between, the last ones, and what they ask for: plan, drill, approvals, invariants.

use std::sync::Arc;

use strangler::{Advance, Controller, Error, Home, Settings, Stage, Verdict};

use crate::forward::running;
use crate::odd::{Odd, Oddity};
use crate::world::{PLAN, World, eventually, following, gate, plan, refusal, settings};

pub(crate) fn with_plan(world: &World, text: &str) -> Controller {
    let settings = Settings { plan: Some(plan(text)), ..settings() };
    world.controller_of(Arc::new(world.shop.clone()), settings)
}

/// A plan by which each ramp by percent needs a drill, and a ramp with tenant `canary` is whole.
fn strict() -> String {
    PLAN.replace("first_ramp_percent_max = 100", "first_ramp_percent_max = 0")
        .replace("name = \"payments\"", "name = \"payments\"\ntenants = [\"canary\"]")
}

fn canary() -> Advance {
    Advance { tenants: Some(vec!["canary".to_owned()]), ..Advance::ramp(0) }
}

async fn stage(controller: &Controller) -> Stage {
    controller.status().await.unwrap().policy.stage
}

#[tokio::test]
async fn shadowing_and_reading_are_left_at_once_and_move_no_key() {
    let world = World::new().await;
    let controller = world.controller();
    world.shadow(&controller).await;
    let back = controller.rollback(None, "a test").await.unwrap();
    assert_eq!((back.to.stage, back.draining), (Stage::Following, false));

    world.read_again(&controller).await;
    let wider = Advance { percent: Some(50), ..Advance::to(Stage::Reading) };
    assert_eq!(controller.advance(&wider, "a test").await.unwrap().to.percent, 50);
    assert_eq!(world.born("a", "here").await, Home::Source, "reads go there, births don't");
    // Who ramps has not asked for half of all births.
    let step = controller.advance(&Advance::to(Stage::Ramping), "a test").await.unwrap();
    assert_eq!((step.to.percent, step.to.tenants.len()), (0, 0));
    controller.rollback(None, "a test").await.unwrap();
    assert_eq!(stage(&controller).await, Stage::Following);
    world.end().await;
}

#[tokio::test]
async fn a_ramp_by_percent_needs_a_rollback_that_was_carried_through() {
    let world = World::new().await;
    let strict = PLAN.replace("first_ramp_percent_max = 100", "first_ramp_percent_max = 0");
    let controller = with_plan(&world, &strict);
    world.read(&controller).await;
    let said = refusal(controller.advance(&Advance::ramp(10), "a test").await);
    assert!(
        said.contains("gate `drill` of stage ramping is inconclusive") && said.contains("--tenant T"),
        "{said}"
    );

    let canary = Advance { tenants: Some(vec!["canary".to_owned()]), ..Advance::ramp(0) };
    controller.advance(&canary, "a test").await.unwrap();
    assert_eq!(world.born("canary", "k").await, Home::Target);
    let (relay, acting) = (world.relay(), running(&controller));
    controller.rollback(None, "a test").await.unwrap();
    eventually("all is home", async || stage(&controller).await == Stage::Following).await;

    world.read_again(&controller).await;
    let step = controller.advance(&Advance::ramp(10), "a test").await.unwrap();
    assert!(gate(&step, "drill").found.starts_with("1 keys came home within"), "{step:?}");
    // What another build has shown says nothing of this one.
    let other = Settings { version: "other".to_owned(), plan: Some(plan(&strict)), ..settings() };
    let other = world.controller_of(Arc::new(world.shop.clone()), other);
    let look = Advance { dry_run: true, ..Advance::ramp(20) };
    let step = other.advance(&look, "a test").await.unwrap();
    for name in ["parity", "drill"] {
        let gate = gate(&step, name);
        assert_eq!(gate.verdict, Verdict::Inconclusive, "{gate:?}");
        assert!(gate.found.contains("another version"), "{gate:?}");
    }
    acting.abort();
    relay.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_rollback_is_taken_back_though_its_drill_has_expired() {
    let world = World::new().await;
    let controller = with_plan(&world, &strict());
    world.read(&controller).await;
    controller.advance(&canary(), "a test").await.unwrap();
    assert_eq!(world.born("canary", "k").await, Home::Target);
    let (relay, acting) = (world.relay(), running(&controller));
    controller.rollback(None, "a test").await.unwrap();
    eventually("all is home", async || stage(&controller).await == Stage::Following).await;
    world.read_again(&controller).await;
    controller.advance(&Advance::ramp(100), "a test").await.unwrap();
    world.target.publish("first", 1);
    controller.advance(&Advance::to(Stage::Primary), "a test").await.unwrap();
    acting.abort();

    assert_eq!(world.born("canary", "stays").await, Home::Target);
    assert!(controller.rollback(None, "a test").await.unwrap().draining);
    world.execute("update strangler.evidence set expires_at = clock_timestamp() where gate = 'drill'").await;
    let step = controller.advance(&Advance::to(Stage::Primary), "a test").await.unwrap();
    assert!(gate(&step, "drill").found.contains("being rolled back"), "{step:?}");
    relay.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_rollback_that_had_no_key_to_bring_home_shows_nothing() {
    let world = World::new().await;
    let controller =
        with_plan(&world, &PLAN.replace("first_ramp_percent_max = 100", "first_ramp_percent_max = 0"));
    world.read(&controller).await;
    let nobody = Advance { tenants: Some(vec!["nobody".to_owned()]), ..Advance::ramp(0) };
    controller.advance(&nobody, "a test").await.unwrap();
    controller.rollback(None, "a test").await.unwrap();
    world.read_again(&controller).await;
    let said = refusal(controller.advance(&Advance::ramp(1), "a test").await);
    assert!(said.contains("gate `drill`"), "{said}");
    world.end().await;
}

#[tokio::test]
async fn primary_needs_a_drill_though_the_ramp_was_whole_by_tenants() {
    let world = World::new().await;
    let controller = with_plan(&world, &strict());
    world.read(&controller).await;
    let step = controller.advance(&canary(), "a test").await.unwrap();
    assert_eq!(gate(&step, "drill").verdict, Verdict::Pass);
    world.target.publish("first", 1);
    let said = refusal(controller.advance(&Advance::to(Stage::Primary), "a test").await);
    assert!(said.contains("gate `drill` of stage primary is inconclusive"), "{said}");
    world.end().await;
}

#[tokio::test]
async fn status_names_the_gate_of_the_step_that_a_plan_shows() {
    let world = World::new().await;
    let controller = with_plan(&world, &strict().replace("canary", "another"));
    world.read(&controller).await;
    let all = Advance { percent: Some(100), ..Advance::to(Stage::Reading) };
    controller.advance(&all, "a test").await.unwrap();
    // A ramp begins at 0 %, whatever the percent of the reads.
    let next = controller.status().await.unwrap().next.unwrap();
    assert_eq!((next.stage, next.verdict), (Stage::Ramping, Verdict::Pass), "{next:?}");

    // From a canary a ramp goes on by percent.
    controller.advance(&canary(), "a test").await.unwrap();
    let next = controller.status().await.unwrap().next.unwrap();
    assert_eq!((next.gate.as_str(), next.verdict), ("drill", Verdict::Inconclusive), "{next:?}");
    let plan = controller.plan().await.unwrap().next;
    assert!(plan.refused.is_some_and(|refused| refused.rule.contains("gate `drill` of stage ramping")));
    world.end().await;
}

#[tokio::test]
async fn primary_needs_a_reverse_feed_that_has_carried_something() {
    let world = World::new().await;
    let controller = world.ramp(100).await;
    let said = refusal(controller.advance(&Advance::to(Stage::Primary), "a test").await);
    assert!(said.contains("gate `reverse_feed` of stage primary is inconclusive"), "{said}");

    // Tenants make a ramp whole only when the plan says so.
    let tenants = Advance { tenants: Some(vec!["nobody".to_owned()]), ..Advance::ramp(0) };
    controller.advance(&tenants, "a test").await.unwrap();
    let said = refusal(controller.advance(&Advance::to(Stage::Primary), "a test").await);
    assert!(said.contains("entered from a ramp of 100 %, not of 0 %"), "{said}");
    world.end().await;
}

#[tokio::test]
async fn sealed_needs_all_keys_there_a_cycle_and_two_people() {
    let world = World::new().await;
    let controller = world.primary(&["a"]).await;
    let sealed = Advance::to(Stage::Sealed);
    let look = Advance { dry_run: true, ..sealed.clone() };
    let step = controller.advance(&look, "a test").await.unwrap();
    assert_eq!(gate(&step, "at_source").verdict, Verdict::Fail);
    let unsettled =
        world.controller_of(Odd::new(&world, Oddity::LeavesOpen("2 bookings differ")), settings());
    let step = unsettled.advance(&look, "a test").await.unwrap();
    let open = gate(&step, "left_open");
    assert_eq!((open.verdict, open.found.as_str()), (Verdict::Fail, "2 bookings differ"));

    let (relay, acting) = (world.relay(), running(&controller));
    eventually("all gates but the approvals pass", async || {
        let step = controller.advance(&look, "a test").await.unwrap();
        step.gates.iter().all(|gate| gate.verdict == Verdict::Pass || gate.name == "approvals")
    })
    .await;
    for who in ["ada", "ada"] {
        assert_eq!(controller.approve(Stage::Sealed, "it is time", who).await.unwrap().approvals.len(), 1);
    }
    let said = refusal(controller.advance(&sealed, "ada").await);
    assert!(said.contains("gate `approvals` of stage sealed is inconclusive: 1 of 2 people"), "{said}");
    let approved = controller.approve(Stage::Sealed, "so it is", "bea").await.unwrap();
    assert_eq!(approved.approvals.len(), approved.needed);

    let step = controller.advance(&sealed, "ada").await.unwrap();
    assert!(step.entered && step.way_back.starts_with("none"), "{}", step.way_back);
    let cites = controller.status().await.unwrap().history.remove(0).cites;
    assert!(approved.approvals.iter().all(|approval| cites.contains(&approval.id)), "{cites:?}");
    assert_eq!(world.born("a", "young").await, Home::Target);
    let said = refusal(controller.rollback(None, "a test").await);
    assert!(said.contains("stage sealed is not rolled back") && said.contains("the other way"), "{said}");
    acting.abort();
    relay.end().await;
    world.end().await;
}

#[tokio::test]
async fn an_approval_is_of_the_next_stage_and_void_after_a_rollback() {
    let world = World::new().await;
    let controller = world.primary(&[]).await;
    let said = refusal(controller.approve(Stage::Removed, "soon", "ada").await);
    assert!(said.contains("stage removed is not the next one from primary"), "{said}");
    for (stage, reason, field) in [(Stage::Ramping, "why not", "stage"), (Stage::Sealed, " ", "reason")] {
        let refused = controller.approve(stage, reason, "ada").await;
        assert!(matches!(&refused, Err(Error::Invalid { field: it, .. }) if *it == field), "{refused:?}");
    }
    controller.approve(Stage::Sealed, "it is time", "ada").await.unwrap();
    assert_eq!(controller.status().await.unwrap().approvals.len(), 1);
    // `born` at the target, so that the stage only drains.
    world.born("a", "theirs").await;
    controller.rollback(None, "a test").await.unwrap();
    controller.advance(&Advance::to(Stage::Primary), "a test").await.unwrap();
    assert!(controller.status().await.unwrap().approvals.is_empty());
    world.end().await;
}

#[tokio::test]
async fn a_plan_names_the_metric_and_the_last_day() {
    let world = World::new().await;
    let controller = world.controller();
    let other = Advance { metric: Some("p50 of checkout".to_owned()), ..following() };
    let said = refusal(controller.advance(&other, "a test").await);
    assert!(said.contains("metric: the plan names \"p99 of checkout\""), "{said}");
    controller.advance(&Advance::to(Stage::Following), "a test").await.unwrap();
    assert_eq!(controller.status().await.unwrap().policy.metric.as_deref(), Some("p99 of checkout"));

    let late = with_plan(&world, &PLAN.replace("2099-12-31", "2020-01-01"));
    let status = late.status().await.unwrap();
    assert!(status.plan.unwrap().overdue);
    assert_eq!(status.next.unwrap().gate, "plan");
    let said = refusal(late.advance(&Advance::to(Stage::Shadowing), "a test").await);
    assert!(said.contains("gate `plan` of stage shadowing failed") && said.contains("`decide_by`"), "{said}");
    let wrong = with_plan(&world, &PLAN.replace("\"payments\"", "\"prices\""));
    let said = refusal(wrong.advance(&Advance::to(Stage::Shadowing), "a test").await);
    assert!(said.contains("it is the plan of migration prices"), "{said}");
    late.rollback(None, "a test").await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn a_broken_invariant_holds_the_migration_until_it_is_mended() {
    let world = World::new().await;
    let controller = world.ramp(0).await;
    let acting = running(&controller);
    world.shop.set_broken(Some("the books do not balance"));
    let held = async || controller.status().await.unwrap().policy.held;
    eventually("it is held", async || held().await.is_some()).await;
    assert_eq!(held().await.as_deref(), Some("the books do not balance"));
    // No step is taken past it, and lifted before it is mended the hold comes back.
    let said = refusal(controller.advance(&Advance { resume: true, ..Advance::ramp(1) }, "a test").await);
    assert!(said.contains("gate `invariants` of stage ramping failed: the books do not balance"), "{said}");
    controller.advance(&Advance::resume(), "a test").await.unwrap();
    eventually("it is held again", async || held().await.is_some()).await;
    world.shop.set_broken(None);
    controller.advance(&Advance { resume: true, ..Advance::ramp(2) }, "a test").await.unwrap();
    assert_eq!(controller.status().await.unwrap().history[0].action, "advance");
    acting.abort();
    world.end().await;
}

#[tokio::test]
async fn no_key_goes_to_the_target_while_an_invariant_is_broken() {
    let world = World::new().await;
    let controller = world.ramp(50).await;
    world.shop.set_broken(Some("the books do not balance"));
    let said = refusal(controller.advance(&Advance::ramp(100), "a test").await);
    assert!(said.contains("gate `invariants` of stage ramping failed: the books do not balance"), "{said}");
    world.shop.set_broken(None);
    controller.advance(&Advance::ramp(100), "a test").await.unwrap();
    world.target.publish("first", 1);
    world.shop.set_broken(Some("the books do not balance"));
    let said = refusal(controller.advance(&Advance::to(Stage::Primary), "a test").await);
    assert!(said.contains("gate `invariants` of stage primary failed"), "{said}");
    world.end().await;
}
