//! A feed that stands still while nobody writes is known by its heartbeats.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use strangler::{Advance, FeedMetrics, Health, Heard, Heartbeat, Home, Settings, Stage};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use crate::world::{SOON, World, eventually, gate, refusal, settings};

/// The last heartbeat came so many seconds ago.
fn came(seconds_ago: u64) -> Heard {
    let (now, age) = (OffsetDateTime::now_utc(), Duration::from_secs(seconds_ago));
    Heard::Last(Heartbeat { sequence: 7, sent_at: now - age, received_at: now - age, age })
}

#[tokio::test]
async fn a_feed_without_traffic_that_stands_still_fails_with_the_age_and_the_way_on() {
    let world = World::new().await;
    let controller = world.controller();
    world.read(&controller).await;
    // Nothing was published since, so by its keys each feed has reached everything.
    world.shop.replica.set_heard(came(42));
    let said = refusal(controller.advance(&Advance::ramp(1), "a test").await);
    let rule =
        "gate `reverse_feed` of stage ramping failed: the last heartbeat came 42 s ago, 15 s are allowed";
    assert!(said.contains(rule) && said.contains("let it catch up"), "{said}");
    let status = controller.status().await.unwrap();
    assert_eq!(status.reverse_feed.unwrap().heartbeat_age_ms, Some(42_000));

    world.shop.replica.set_heard(came(3));
    world.target.set_heard(came(16));
    let said = refusal(controller.advance(&Advance::ramp(1), "a test").await);
    assert!(said.contains("gate `feed` of stage ramping failed: the last heartbeat came 16 s ago"), "{said}");

    world.target.set_heard(came(15));
    let step = controller.advance(&Advance::ramp(1), "a test").await.unwrap();
    let found = &gate(&step, "reverse_feed").found;
    assert!(found.contains("published nothing yet"), "{found}");
    assert!(found.ends_with("the last heartbeat came 3 s ago"), "{found}");
    assert_eq!(gate(&step, "reverse_feed").evidence["heartbeat"]["sequence"], 7);
    world.end().await;
}

#[tokio::test]
async fn why_tells_the_last_heartbeat_of_each_direction_and_none_where_none_is_known() {
    let world = World::new().await;
    let controller = world.controller();
    world.shadow(&controller).await;
    world.target.set_heard(came(3));
    // In shadowing the target sends none: what the source heard in an earlier stage says nothing.
    world.shop.replica.set_heard(came(42));
    let ages = async || {
        let why = controller.why("first").await.unwrap();
        (why.heartbeat_age_ms_at_target, why.heartbeat_age_ms_at_source)
    };
    assert_eq!(ages().await, (Some(3_000), None));

    controller.advance(&Advance::to(Stage::Reading), "a test").await.unwrap();
    assert_eq!(ages().await, (Some(3_000), Some(42_000)));
    world.shop.replica.set_heard(Heard::Nothing);
    world.target.set_health(None);
    assert_eq!(ages().await, (None, None), "none has come, and the target can't be asked");
    world.end().await;
}

#[tokio::test]
async fn a_feed_through_which_no_heartbeat_has_come_is_inconclusive() {
    let world = World::new().await;
    let controller = world.controller();
    world.follow(&controller).await;
    world.target.set_heard(Heard::Nothing);
    let said = refusal(controller.advance(&Advance::to(Stage::Shadowing), "a test").await);
    assert!(said.contains("gate `feed` of stage shadowing is inconclusive: no heartbeat has come"), "{said}");
    assert_eq!(controller.status().await.unwrap().feed.unwrap().heartbeat_age_ms, None);
    world.end().await;
}

#[tokio::test]
async fn a_feed_that_is_behind_fails_by_its_keys_however_fresh_its_heartbeat_is() {
    let world = World::new().await;
    let controller = world.controller();
    world.read(&controller).await;
    world.shop.replica.set_heard(came(0));
    world.target.publish("first", 2);
    let said = refusal(controller.advance(&Advance::ramp(1), "a test").await);
    assert!(said.contains("gate `reverse_feed` of stage ramping failed: 1 of 1 keys behind"), "{said}");
    world.end().await;
}

#[tokio::test]
async fn a_heartbeat_that_comes_while_the_gate_looks_is_enough() {
    let world = World::new().await;
    let patient = Settings { feed_timeout: SOON, ..settings() };
    let controller = world.controller_of(Arc::new(world.shop.clone()), patient);
    world.read(&controller).await;
    world.shop.replica.set_heard(came(42));
    let before = world.shop.asked.load(Ordering::SeqCst);
    let step = Advance::ramp(1);
    let (step, ()) = tokio::join!(controller.advance(&step, "a test"), async {
        let looked = async || world.shop.asked.load(Ordering::SeqCst) > before;
        eventually("the gate has looked, and found no heartbeat", looked).await;
        world.shop.replica.set_heard(came(0));
    });
    step.unwrap();
    world.end().await;
}

#[tokio::test]
async fn for_all_keys_a_heartbeat_alone_does_not_show_that_they_would_come_back() {
    let world = World::new().await;
    let controller = world.ramp(0).await;
    world.shop.replica.set_heard(came(0));
    world.target.set_heard(came(0));
    controller.advance(&Advance::ramp(100), "a test").await.unwrap();
    let said = refusal(controller.advance(&Advance::to(Stage::Primary), "a test").await);
    assert!(said.contains("gate `reverse_feed` of stage primary is inconclusive"), "{said}");
    world.end().await;
}

#[tokio::test]
async fn each_home_sends_while_the_stage_or_the_next_gate_needs_it() {
    let world = World::new().await;
    let often = Settings { heartbeat_every: Duration::from_millis(20), ..settings() };
    let controller = world.controller_of(Arc::new(world.shop.clone()), often);
    world.shadow(&controller).await;
    assert_eq!((world.shop.replica.beats(), world.target.beats()), (0, 0), "nobody leads yet");
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(controller.clone().run(shutdown.clone()));
    eventually("the source to send some", async || world.shop.replica.beats() >= 3).await;
    assert_eq!(world.target.beats(), 0, "in shadowing nothing comes from the target");

    controller.advance(&Advance::to(Stage::Reading), "a test").await.unwrap();
    eventually("the target to send some", async || world.target.beats() >= 3).await;
    // The source goes on though the target can't be reached.
    world.target.set_health(None);
    let (here, there) = (world.shop.replica.beats(), world.target.beats());
    eventually("the source to send more", async || world.shop.replica.beats() > here + 2).await;
    assert!(world.target.beats() <= there + 1, "one may have been under way");
    shutdown.cancel();
    running.await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn the_leader_shows_the_ages_of_the_stage_and_no_others() {
    let world = World::new().await;
    let metrics = FeedMetrics::noop();
    let often = Duration::from_millis(20);
    let often = Settings { heartbeat_every: often, metrics: metrics.clone(), ..settings() };
    let controller = world.controller_of(Arc::new(world.shop.clone()), often);
    world.shadow(&controller).await;
    world.target.set_heard(came(42));
    world.shop.replica.set_heard(Heard::Nothing);
    let is_old = async || metrics.heartbeat_age(Home::Source).is_some_and(|age| age.as_secs() >= 42);
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(controller.clone().run(shutdown.clone()));
    eventually("the age of the source's last one", async || is_old().await).await;
    assert_eq!(metrics.heartbeat_age(Home::Target), None, "in shadowing the target sends none");

    // It is not asked for a while: the age goes on growing.
    world.target.set_health(None);
    let before = world.shop.replica.beats();
    eventually("two more looks", async || world.shop.replica.beats() >= before + 2).await;
    assert!(is_old().await);
    world.target.set_health(Some(Health::Serving));
    world.target.set_heard(Heard::Unsent);
    let is_gone = async |from: Home| metrics.heartbeat_age(from).is_none();
    eventually("a domain that sends none has no age", async || is_gone(Home::Source).await).await;

    controller.advance(&Advance::to(Stage::Reading), "a test").await.unwrap();
    eventually("before the first it grows", async || !is_gone(Home::Target).await).await;
    controller.rollback(None, "a test").await.unwrap();
    eventually("following has none from the target", async || is_gone(Home::Target).await).await;
    world.target.set_heard(came(0));
    eventually("the source's again", async || !is_gone(Home::Source).await).await;
    shutdown.cancel();
    running.await.unwrap();
    assert_eq!(metrics.heartbeat_age(Home::Source), None, "it leads no more");
    world.end().await;
}

#[tokio::test]
async fn an_interval_has_one_heartbeat_though_the_controller_looks_often() {
    let world = World::new().await;
    let rarely = Settings { heartbeat_every: Duration::from_secs(3_600), ..settings() };
    let controller = world.controller_of(Arc::new(world.shop.clone()), rarely);
    world.shadow(&controller).await;
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(controller.clone().run(shutdown.clone()));
    eventually("the first", async || world.shop.replica.beats() > 0).await;
    // It has looked again when it has seen what is broken now.
    world.shop.set_broken(Some("the books are not balanced"));
    let held = async || controller.status().await.unwrap().policy.held.is_some();
    eventually("a later look", held).await;
    assert_eq!(world.shop.replica.beats(), 1);
    shutdown.cancel();
    running.await.unwrap();
    world.end().await;
}
