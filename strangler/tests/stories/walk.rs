//! Forward, back, and what an operator is told.

use strangler::{Advance, Error, Home, Stage, Verdict};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::world::{SOON, World, eventually, following, refusal, role};

#[tokio::test]
async fn a_dry_run_asks_the_gates_and_changes_nothing() {
    let world = World::new().await;
    let controller = world.controller();
    world.target.set_health(None);
    let step = Advance { dry_run: true, ..Advance::to(Stage::Following) };
    let answer = controller.advance(&step, "a test").await.unwrap();
    assert!(!answer.entered);
    assert!(answer.refused.unwrap().rule.contains("target_healthy"));
    world.target.set_health(Some(strangler::Health::Serving));

    let answer = controller.advance(&Advance { dry_run: true, ..following() }, "a test").await.unwrap();
    assert!(!answer.entered && answer.refused.is_none());
    assert_eq!(controller.status().await.unwrap().policy.revision, 1);
    world.end().await;
}

#[tokio::test]
async fn a_rollback_with_keys_at_the_target_stops_births_and_says_how_many_stay() {
    let world = World::new().await;
    let controller = world.ramp(100).await;
    for key in ["x", "y", "z"] {
        world.born("a", key).await;
    }
    let back = controller.rollback(None, "a test").await.unwrap();
    assert_eq!((back.to.stage, back.to.percent, back.draining, back.at_target), (Stage::Ramping, 0, true, 3));
    assert!(back.says.contains("3 keys are not there yet and are called back"), "{}", back.says);
    assert_eq!(world.born("a", "after").await, Home::Source);
    assert_eq!(world.owner("x").await.home, Home::Target);

    // Forward again.
    let step = controller.advance(&Advance::ramp(100), "a test").await.unwrap();
    assert!(step.entered && !controller.status().await.unwrap().policy.draining);
    assert_eq!(world.born("a", "again").await, Home::Target);
    world.end().await;
}

#[tokio::test]
async fn the_lower_stage_is_entered_when_the_last_key_has_left_the_target() {
    let world = World::new().await;
    let controller = world.ramp(100).await;
    world.born("a", "x").await;
    controller.rollback(None, "a test").await.unwrap();

    let shutdown = CancellationToken::new();
    let running = tokio::spawn(controller.clone().run(shutdown.clone()));
    eventually("it leads", async || controller.status().await.unwrap().controller.is_some()).await;
    assert_eq!(controller.status().await.unwrap().policy.stage, Stage::Ramping);

    // The release arrives.
    let relay = world.relay();
    eventually("following is entered", async || {
        controller.status().await.unwrap().policy.stage == Stage::Following
    })
    .await;
    shutdown.cancel();
    timeout(SOON, running).await.unwrap().unwrap();
    relay.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_rollback_without_keys_at_the_target_goes_all_the_way() {
    let world = World::new().await;
    let controller = world.ramp(0).await;
    assert_eq!(controller.rollback(None, "a test").await.unwrap().to.stage, Stage::Following);
    assert_eq!(controller.rollback(None, "a test").await.unwrap().to.stage, Stage::Local);
    let said = refusal(controller.rollback(None, "a test").await);
    assert!(said.contains("nothing to roll back"), "{said}");
    // And forward again: owner rows are there, so nothing is seeded.
    let step = controller.advance(&Advance::to(Stage::Following), "a test").await.unwrap();
    assert_eq!((step.entered, step.seeded), (true, 0));
    world.end().await;
}

#[tokio::test]
async fn a_rollback_sent_again_takes_no_second_step() {
    let world = World::new().await;
    let controller = world.ramp(0).await;
    let seen = controller.status().await.unwrap().policy.revision;
    let back = controller.rollback(Some(seen), "a test").await.unwrap();
    assert_eq!((back.to.stage, back.revision), (Stage::Following, seen + 1));
    assert!(matches!(controller.rollback(Some(seen), "a test").await, Err(Error::Changed(_))));
    let policy = controller.status().await.unwrap().policy;
    assert_eq!((policy.stage, policy.revision), (Stage::Following, seen + 1));
    world.end().await;
}

#[tokio::test]
async fn a_step_that_was_taken_is_told_even_when_the_keys_cannot_be_counted() {
    let world = World::new().await;
    let controller = world.controller();
    world.read(&controller).await;
    let revoke = format!("revoke all on strangler.owner from {}", role(&world.database, "controller"));
    sqlx::query(sqlx::AssertSqlSafe(revoke)).execute(&world.admin).await.unwrap();
    let step = controller.advance(&Advance::ramp(5), "a test").await.unwrap();
    assert!(step.entered && step.way_back.contains("banyan rollback"), "{}", step.way_back);
    assert_eq!(world.number("select percent::bigint from strangler.migration").await, 5);
    world.end().await;
}

#[tokio::test]
async fn a_hold_stops_steps_forward_but_not_the_way_back() {
    let world = World::new().await;
    let controller = world.ramp(10).await;
    controller.hold("numbers look odd", "a test").await.unwrap();
    let said = refusal(controller.advance(&Advance::ramp(20), "a test").await);
    assert!(said.contains("held: numbers look odd") && said.contains("--resume"), "{said}");
    assert!(controller.plan().await.unwrap().next.refused.unwrap().rule.contains("numbers look odd"));
    controller.rollback(None, "a test").await.unwrap();
    assert!(matches!(controller.hold(" ", "a test").await, Err(Error::Invalid { field: "reason", .. })));
    world.end().await;
}

#[tokio::test]
async fn a_key_without_an_owner_holds_the_migration() {
    let world = World::new().await;
    let controller = world.ramp(10).await;
    world.shop.insert("a", "forgotten").await;

    let shutdown = CancellationToken::new();
    let running = tokio::spawn(controller.clone().run(shutdown.clone()));
    eventually("it is held", async || controller.status().await.unwrap().policy.held.is_some()).await;
    shutdown.cancel();
    timeout(SOON, running).await.unwrap().unwrap();

    let status = controller.status().await.unwrap();
    assert_eq!(status.policy.held.as_deref(), Some("key forgotten has no owner"));
    assert_eq!(status.history[0].by, "controller");
    refusal(controller.advance(&Advance::ramp(20), "a test").await);
    world.end().await;
}

#[tokio::test]
async fn status_and_plan_tell_where_it_stands() {
    let world = World::new().await;
    let controller = world.ramp(100).await;
    world.born("a", "x").await;
    world.execute("update shop.payment set version = 2 where key = 'x'").await;
    let status = controller.status().await.unwrap();
    assert_eq!((status.keys.source, status.keys.target, status.keys.moving), (1, 1, 0));
    assert_eq!(status.target, "the target serves");
    assert_eq!(status.feed.unwrap().behind, 1, "the second version of x is not at the target yet");
    assert_eq!(status.next.unwrap().verdict, Verdict::Inconclusive);
    assert_eq!(status.history.len(), 5);
    let stages: Vec<_> = status.history.iter().map(|line| line.to_stage.as_str()).collect();
    assert_eq!(stages, ["ramping", "reading", "shadowing", "following", "local"]);

    world.caught_up("x", 2);
    world.target.publish("x", 2);
    assert_eq!(controller.status().await.unwrap().next.unwrap().verdict, Verdict::Pass);
    world.target.set_health(None);
    let status = controller.status().await.unwrap();
    assert!(status.target.contains("could not be asked") && status.feed.is_none());

    world.target.set_health(Some(strangler::Health::Serving));
    controller.advance(&Advance::ramp(10), "a test").await.unwrap();
    let plan = controller.plan().await.unwrap();
    assert_eq!((plan.next.to.percent, plan.next.entered), (20, false));
    assert!(plan.way_back.contains("1 keys are called back"), "{}", plan.way_back);
    world.end().await;
}

#[tokio::test]
async fn why_names_the_policy_that_decided() {
    let world = World::new().await;
    world.shop.insert("a", "old").await;
    let controller = world.ramp(100).await;
    world.born("a", "x").await;
    controller.advance(&Advance::ramp(0), "a test").await.unwrap();
    world.caught_up("x", 4);

    let why = controller.why("x").await.unwrap();
    assert_eq!((why.owner, why.would_be_born, why.applied_at_target), (Home::Target, Home::Source, Some(4)));
    let because = format!("born at revision 5, 100 %: its share {} is below 100", why.share);
    assert_eq!(why.because, because);

    let old = controller.why("old").await.unwrap();
    assert!(old.because.contains("was seeded"), "{}", old.because);
    let first = controller.why("first").await.unwrap();
    assert!(first.because.contains("in stage local"), "{}", first.because);
    assert!(matches!(controller.why("never").await, Err(Error::UnknownKey { .. })));
    world.end().await;
}

#[tokio::test]
async fn why_tells_a_part_of_a_feed_that_stands_still_from_a_slow_one() {
    let world = World::new().await;
    let controller = world.controller();
    world.follow(&controller).await;
    world.born("a", "k").await;
    world.born("a", "m").await;
    let lag = async || controller.why("k").await.unwrap().lag;
    assert_eq!(lag().await, None);
    world.execute("update shop.payment set version = 2").await;
    let said = lag().await.unwrap();
    assert!(said.contains("none of the 1 keys written after it has arrived: the whole feed"), "{said}");
    world.target.apply("m", 2);
    let said = lag().await.unwrap();
    assert!(said.contains("1 of the 1 keys written after it have arrived: its own part"), "{said}");
    world.target.apply("k", 2);
    assert_eq!(lag().await, None);
    world.end().await;
}
