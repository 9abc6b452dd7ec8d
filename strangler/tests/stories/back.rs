//! Keys come back from the target, once they are quiet there.

use std::sync::Arc;
use std::time::Instant;

use strangler::{Advance, Epoch, Error, Home, Phase, Settings, Stage, Taken};

use crate::domain::take_back;
use crate::forward::running;
use crate::world::{World, eventually, settings};

/// Keys that become the target's while others are called back.
const LATE: [(&str, &str); 2] = [
    (
        "late-1",
        "insert into strangler.owner (migration, key, tenant, owner, born_at, born_revision)
         values ('payments', 'late-1', 'a', 'target', now(), 1)",
    ),
    (
        "late-2",
        "insert into strangler.owner (migration, key, tenant, owner, born_at, born_revision)
         values ('payments', 'late-2', 'a', 'target', now(), 1)",
    ),
];

#[tokio::test]
async fn a_rollback_calls_all_keys_back_and_enters_the_lower_stage() {
    let world = World::new().await;
    let controller = world.primary(&["a", "b"]).await;
    world.born("a", "young").await;
    let (relay, acting) = (world.relay(), running(&controller));
    for key in ["a", "b"] {
        world.settled(key, Home::Target).await;
    }
    let back = controller.rollback(None, "a test").await.unwrap();
    assert_eq!((back.to.stage, back.draining), (Stage::Primary, true));
    assert!(back.says.contains("are called back"), "{}", back.says);
    assert_eq!(world.born("a", "after").await, Home::Source);
    for key in ["a", "b", "young"] {
        world.settled(key, Home::Source).await;
        assert!(world.lock(key).await.is_ok());
        assert!(world.target.row(key).is_some_and(|row| !row.writable));
    }
    eventually("following is entered", async || {
        controller.status().await.unwrap().policy.stage == Stage::Following
    })
    .await;
    acting.abort();
    relay.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_busy_key_waits_with_its_reason_and_comes_when_it_is_quiet() {
    let world = World::new().await;
    let controller = world.ramp(100).await;
    for key in ["busy", "quiet"] {
        world.born("a", key).await;
    }
    world.target.set_busy("busy", Some("an outcome is unknown"));
    let (relay, acting) = (world.relay(), running(&controller));
    controller.rollback(None, "a test").await.unwrap();
    world.settled("quiet", Home::Source).await;
    eventually("it is pinned", async || controller.status().await.unwrap().pinned == 1).await;
    let pinned = controller.pinned(10).await.unwrap();
    assert_eq!(pinned.keys[0].why, "an outcome is unknown");
    assert_eq!(controller.status().await.unwrap().keys.recalling, 1);
    assert!(matches!(world.lock("busy").await, Err(Error::Moving { .. })));
    assert!(world.target.row("busy").is_some_and(|row| row.recall_epoch == Some(Epoch(2))));

    world.target.set_busy("busy", None);
    world.settled("busy", Home::Source).await;
    assert_eq!(world.owner("busy").await.epoch, Epoch(3));
    eventually("none is pinned", async || controller.status().await.unwrap().pinned == 0).await;
    acting.abort();
    relay.end().await;
    world.end().await;
}

#[tokio::test]
async fn keys_of_a_dead_target_wait_and_come_when_it_is_back() {
    let world = World::new().await;
    let controller = world.ramp(100).await;
    world.born("a", "k").await;
    world.target.set_busy("k", Some("a refund is under way"));
    let (relay, acting) = (world.relay(), running(&controller));
    controller.rollback(None, "a test").await.unwrap();
    eventually("it is called back", async || controller.status().await.unwrap().keys.recalling == 1).await;
    world.target.set_health(None);
    world.target.set_busy("k", None);
    // Nobody calls another key back from a target that can't be asked.
    world
        .execute(
            "insert into strangler.owner (migration, key, tenant, owner, born_at, born_revision)
             values ('payments', 'late', 'a', 'target', now(), 1)",
        )
        .await;
    world.target.born("late").unwrap();
    let status = controller.status().await.unwrap();
    assert!(status.policy.draining && status.target.contains("could not be asked"), "{}", status.target);
    assert_eq!((status.keys.recalling, status.keys.target), (1, 1));
    assert!(matches!(world.lock("k").await, Err(Error::Moving { .. })), "nothing proves that it was fenced");

    world.target.set_health(Some(strangler::Health::Serving));
    for key in ["k", "late"] {
        world.settled(key, Home::Source).await;
    }
    acting.abort();
    relay.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_recall_that_is_cancelled_leaves_the_key_at_the_target_though_it_was_released() {
    let world = World::new().await;
    let controller = world.ramp(100).await;
    world.born("a", "k").await;
    // No relay: the release is published and does not arrive.
    let acting = running(&controller);
    controller.rollback(None, "a test").await.unwrap();
    eventually("the target has given it up", async || world.target.row("k").is_some_and(|row| !row.writable))
        .await;
    let released = world.target.take_released();
    assert_eq!(released, [("k".to_owned(), Epoch(2))]);

    controller.advance(&Advance::ramp(100), "a test").await.unwrap();
    world.settled("k", Home::Target).await;
    eventually("it is granted again", async || {
        world.target.row("k").is_some_and(|row| row.writable && row.epoch == Epoch(3))
    })
    .await;
    // The late release changes nothing.
    assert_eq!(take_back(&world.writes_pool, &world.writes, "k", Epoch(2)).await, Taken::Follow);
    let owner = world.owner("k").await;
    assert_eq!((owner.home, owner.phase, owner.epoch), (Home::Target, Phase::Settled, Epoch(3)));
    acting.abort();
    world.end().await;
}

#[tokio::test]
async fn a_released_key_is_left_alone_while_its_release_may_be_on_its_way_and_asked_for_again_after_that() {
    let world = World::new().await;
    let controller = world.ramp(100).await;
    world.born("a", "k").await;
    // No relay: the releases are published and do not arrive.
    let (acting, began) = (running(&controller), Instant::now());
    controller.rollback(None, "a test").await.unwrap();
    let given_up = async |key: &'static str| {
        let gone = async || world.target.row(key).is_some_and(|row| !row.writable);
        eventually(&format!("{key} is given up"), gone).await;
    };
    given_up("k").await;
    for (key, sql) in LATE {
        // It is called back in a look after that in which the one before was released.
        world.target.born(key).unwrap();
        world.execute(sql).await;
        given_up(key).await;
    }
    let asked = world.target.take_asked_back();
    // Else the machine stood still.
    let most = 1 + began.elapsed().as_secs() / 5;
    for key in ["k", "late-1", "late-2"] {
        let times = asked.iter().filter(|(asked, _)| asked == key).count();
        assert!((1..=most).contains(&u64::try_from(times).unwrap()), "{key}: {asked:?}");
    }

    let released = world.target.take_released();
    assert_eq!(released.len(), 3);
    eventually("it is asked for again", async || {
        world.target.take_asked_back().contains(&("k".to_owned(), Epoch(2)))
    })
    .await;
    assert!(world.target.take_released().is_empty(), "it was released before");
    for (key, epoch) in released {
        assert_eq!(take_back(&world.writes_pool, &world.writes, &key, epoch).await, Taken::Mine);
    }
    acting.abort();
    world.end().await;
}

#[tokio::test]
async fn keys_that_the_target_does_not_give_back_are_named_and_leave_room_for_others() {
    let world = World::new().await;
    let controller = world.ramp(100).await;
    world.born("a", "z").await;
    // Their first events never came to the target, and one is at a later epoch there.
    world
        .execute(
            "insert into strangler.owner (migration, key, tenant, owner, born_at, born_revision)
             select 'payments', 'lost-' || n, 'a', 'target', now(), 1 from generate_series(1, 6) n",
        )
        .await;
    world.target.offer("lost-6", Epoch(7)).unwrap();
    let narrow = Settings { moves_max: 2, ..settings() };
    let narrow = world.controller_of(Arc::new(world.shop.clone()), narrow);
    let (relay, acting) = (world.relay(), running(&narrow));
    controller.rollback(None, "a test").await.unwrap();
    world.settled("z", Home::Source).await;
    eventually("all others are pinned", async || controller.pinned(10).await.unwrap().count == 6).await;
    for pinned in controller.pinned(10).await.unwrap().keys {
        let why = if pinned.key == "lost-6" { "at a later epoch" } else { "not applied at the target" };
        assert!(pinned.why.contains(why), "{pinned:?}");
    }
    acting.abort();
    relay.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_key_that_a_call_fails_for_is_named_and_all_others_come() {
    let world = World::new().await;
    let controller = world.ramp(100).await;
    let keys: Vec<String> = (10..40).map(|n| format!("k{n}")).collect();
    for key in &keys {
        world.born("a", key).await;
    }
    world.target.spoil("k17");
    let (relay, acting) = (world.relay(), running(&controller));
    controller.rollback(None, "a test").await.unwrap();
    for key in keys.iter().filter(|key| *key != "k17") {
        world.settled(key, Home::Source).await;
    }
    eventually("it is pinned", async || controller.pinned(10).await.unwrap().count == 1).await;
    let pinned = controller.pinned(10).await.unwrap().keys.remove(0);
    assert!(pinned.key == "k17" && pinned.why.contains("makes no sense"), "{pinned:?}");
    acting.abort();
    relay.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_release_of_a_key_that_is_the_sources_is_an_alarm() {
    let world = World::new().await;
    world.ramp(0).await;
    let mut tx = world.writes_pool.begin().await.unwrap();
    let taken = world.writes.take_back(&mut tx, "first", Epoch(1)).await;
    assert!(matches!(taken, Err(Error::ForeignWrite { .. })), "{taken:?}");
    drop(tx);
    world.end().await;
}
