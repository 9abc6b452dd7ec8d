//! Old keys go to the target, once they are quiet.

use std::sync::Arc;
use std::time::Duration;

use strangler::{Controller, Epoch, Error, Health, Home, Phase, Settings, Stage};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::odd::{Odd, Oddity};
use crate::world::{SOON, World, eventually, settings};

/// Runs a controller until the returned task is aborted, which is a crash.
pub(crate) fn running(controller: &Controller) -> JoinHandle<()> {
    tokio::spawn(controller.clone().run(tokio_util::sync::CancellationToken::new()))
}

#[tokio::test]
async fn quiet_keys_go_and_a_busy_one_is_pinned_until_it_is_quiet() {
    let world = World::new().await;
    let controller = world.primary(&["a", "b", "c"]).await;
    world.busy("b", Some("a refund is under way")).await;
    let (relay, acting) = (world.relay(), running(&controller));

    for key in ["a", "c", "first"] {
        world.settled(key, Home::Target).await;
        // Born at 1, fenced at 2, decided at 3.
        assert_eq!(world.owner(key).await.epoch, Epoch(3));
        assert!(matches!(world.lock(key).await, Err(Error::NotOwner { owner: Home::Target, .. })));
    }
    eventually("the target has confirmed them", async || {
        controller.status().await.unwrap().keys.granting == 0
    })
    .await;
    assert!(world.target.row("a").is_some_and(|row| row.writable && row.epoch == Epoch(3)));
    eventually("b is pinned", async || controller.pinned(10).await.unwrap().count == 1).await;
    let pinned = controller.pinned(10).await.unwrap();
    assert_eq!((pinned.keys[0].key.as_str(), pinned.keys[0].why.as_str()), ("b", "a refund is under way"));
    assert_eq!(controller.status().await.unwrap().pinned, 1);
    // Between two looks at it.
    eventually("the source writes it on", async || matches!(world.lock("b").await, Ok(1))).await;
    assert!(matches!(controller.pinned(0).await, Err(Error::Invalid { field: "limit", .. })));

    world.busy("b", None).await;
    world.settled("b", Home::Target).await;
    eventually("none is pinned", async || controller.status().await.unwrap().pinned == 0).await;
    acting.abort();
    relay.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_key_that_is_being_written_stays_until_the_write_is_over() {
    let world = World::new().await;
    let controller = world.primary(&["written", "other"]).await;
    let mut write = world.writes_pool.begin().await.unwrap();
    world.writes.lock(&mut write, "written").await.unwrap();
    let (relay, acting) = (world.relay(), running(&controller));
    world.settled("other", Home::Target).await;
    assert_eq!(world.owner("written").await.epoch, Epoch::BIRTH);
    eventually("it is pinned", async || controller.pinned(10).await.unwrap().count == 1).await;
    let pinned = controller.pinned(10).await.unwrap().keys.remove(0);
    assert_eq!(
        (pinned.key.as_str(), pinned.why.as_str()),
        ("written", "it is being written, or someone holds its row")
    );

    write.commit().await.unwrap();
    world.settled("written", Home::Target).await;
    acting.abort();
    relay.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_move_that_takes_too_long_is_given_up_and_tried_again_later() {
    let world = World::new().await;
    world.primary(&["k"]).await;
    let hasty = Settings { move_timeout: Duration::from_millis(200), ..settings() };
    let controller = world.controller_of(Arc::new(world.shop.clone()), hasty);
    let relay = world.relay();
    relay.stand_still(true);
    let acting = running(&controller);

    eventually("the move is given up", async || world.owner("k").await.epoch >= Epoch(3)).await;
    eventually("it is pinned", async || controller.status().await.unwrap().pinned > 0).await;
    let pinned = controller.pinned(1).await.unwrap();
    assert!(pinned.keys[0].why.contains("in time"), "{pinned:?}");
    eventually("its work begins again", async || {
        world.number("select woken from shop.payment where key = 'k'").await > 0
    })
    .await;

    relay.stand_still(false);
    world.settled("k", Home::Target).await;
    acting.abort();
    relay.end().await;
    world.end().await;
}

/// Payments at the source, `k1` to `k600`, with their owners, beside `first`.
async fn many(world: &World) {
    for sql in [
        "insert into shop.payment (key) select 'k' || n from generate_series(1, 600) n",
        "insert into strangler.owner (migration, key, tenant, owner, born_at, born_revision)
         select 'payments', 'k' || n, 'a', 'source', now(), 0 from generate_series(1, 600) n",
    ] {
        assert_eq!(world.execute(sql).await, 600);
    }
}

#[tokio::test]
async fn few_keys_at_once_leave_for_a_target_whose_replica_stands_still() {
    let world = World::new().await;
    world.primary(&[]).await;
    many(&world).await;
    let hasty = Settings { move_timeout: Duration::from_millis(200), ..settings() };
    let controller = world.controller_of(Arc::new(world.shop.clone()), hasty);
    let relay = world.relay();
    relay.stand_still(true);
    let acting = running(&controller);
    let moving = "select count(*) from strangler.owner where phase = 'moving'";
    let most = tokio::time::timeout(SOON, async {
        let mut most = 0;
        while world.number("select count(*) from shop.given").await < 40 {
            most = most.max(world.number(moving).await);
        }
        most
    });
    let most = most.await.unwrap();
    assert!((1..=8).contains(&most), "{most} keys were nobody's to write at once");
    eventually("status says so", async || controller.status().await.unwrap().came_back > 0).await;

    relay.stand_still(false);
    eventually("all have left", async || {
        world.number("select count(*) from strangler.owner where owner = 'source'").await == 0
    })
    .await;
    acting.abort();
    relay.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_key_whose_offer_can_not_be_published_is_pinned_and_all_others_leave() {
    let world = World::new().await;
    world.primary(&[]).await;
    many(&world).await;
    let poisoned = Odd::new(&world, Oddity::Poisons("k300"));
    let controller = world.controller_of(poisoned, settings());
    let (relay, acting) = (world.relay(), running(&controller));
    let left = "select count(*) from strangler.owner where owner = 'source'";
    eventually("all others have left", async || world.number(left).await == 1).await;
    eventually("it is pinned", async || controller.pinned(10).await.unwrap().count == 1).await;
    let pinned = controller.pinned(10).await.unwrap().keys.remove(0);
    assert!(pinned.key == "k300" && pinned.why.contains("makes no sense"), "{pinned:?}");
    assert!(matches!(world.lock("k300").await, Ok(1) | Err(Error::Moving { .. })), "the source writes it on");
    acting.abort();
    relay.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_grant_that_the_target_does_not_take_is_pinned_with_its_reason() {
    let world = World::new().await;
    let controller = world.ramp(100).await;
    world
        .execute(
            "insert into strangler.owner (migration, key, tenant, owner, epoch, born_at, born_revision)
             values ('payments', 'lost', 'a', 'target', 3, now(), 0)",
        )
        .await;
    world.execute("update strangler.owner set changed_at = now() where key = 'lost'").await;
    let acting = running(&controller);
    eventually("it is pinned", async || controller.pinned(10).await.unwrap().count == 1).await;
    let pinned = controller.pinned(10).await.unwrap().keys.remove(0);
    assert!(pinned.key == "lost" && pinned.why.contains("is not applied at the target"), "{pinned:?}");

    world.target.offer("lost", Epoch(2)).unwrap();
    eventually("it is confirmed", async || controller.status().await.unwrap().keys.granting == 0).await;
    eventually("none is pinned", async || controller.pinned(10).await.unwrap().count == 0).await;
    acting.abort();
    world.end().await;
}

#[tokio::test]
async fn no_key_stays_pinned_in_local() {
    let world = World::new().await;
    let controller = world.controller();
    world.follow(&controller).await;
    controller.rollback(None, "a test").await.unwrap();
    world
        .execute("insert into strangler.pinned (migration, key, why) values ('payments', 'first', 'busy')")
        .await;
    let acting = running(&controller);
    eventually("none is pinned", async || controller.pinned(10).await.unwrap().count == 0).await;
    acting.abort();
    world.end().await;
}

#[tokio::test]
async fn a_timeout_beside_a_decision_never_leaves_two_writers() {
    let world = World::new().await;
    let keys: Vec<String> = (0..20).map(|n| format!("k{n}")).collect();
    world.primary(&keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
    // Each look finds each move late: whatever the target is ready for is decided and given up at once.
    let hasty = Settings { move_timeout: Duration::from_millis(1), ..settings() };
    let controllers =
        [&hasty, &hasty].map(|settings| world.controller_of(Arc::new(world.shop.clone()), settings.clone()));
    let relay = world.relay();
    let acting = controllers.each_ref().map(running);
    eventually("a key was given up or decided", async || {
        let given_up = "select count(*) from strangler.owner where owner = 'source' and epoch >= 3";
        let decided = "select count(*) from strangler.owner where owner = 'target'";
        world.number(given_up).await > 0 || world.number(decided).await > 0
    })
    .await;
    for acting in acting {
        acting.abort();
    }
    relay.end().await;
    for key in &keys {
        let owner = world.owner(key).await;
        let source = (owner.home, owner.phase) == (Home::Source, Phase::Settled);
        let target = world.target.row(key).is_some_and(|row| row.writable);
        assert!(!(source && target), "{key} has two writers: {owner:?}");
    }
    world.end().await;
}

#[tokio::test]
async fn two_controllers_hand_over_each_key_once() {
    let world = World::new().await;
    let one = world.primary(&["a", "b", "c", "d"]).await;
    let (relay, acting) = (world.relay(), [running(&one), running(&world.controller())]);
    for key in ["a", "b", "c", "d"] {
        world.settled(key, Home::Target).await;
    }
    let again = "select count(*) from (select from shop.given group by key having count(*) > 1) again";
    assert_eq!(world.number(again).await, 0);
    for acting in acting {
        acting.abort();
    }
    relay.end().await;
    world.end().await;
}

#[tokio::test]
async fn no_key_leaves_for_a_target_that_does_not_serve() {
    let world = World::new().await;
    let controller = world.primary(&["k"]).await;
    world.target.set_health(Some(Health::NotServing));
    let (relay, acting) = (world.relay(), running(&controller));
    eventually("it leads", async || controller.status().await.unwrap().controller.is_some()).await;
    assert_eq!(world.number("select count(*) from strangler.owner where epoch > 1").await, 0);

    world.target.set_health(Some(Health::Serving));
    world.settled("k", Home::Target).await;
    acting.abort();
    relay.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_rollback_waits_for_a_fence_under_way_and_none_comes_after_it() {
    let world = World::new().await;
    let controller = world.primary(&["k"]).await;
    let reached = Arc::new(Notify::new());
    let slow = Odd::new(&world, Oddity::DiesAt("give", Arc::clone(&reached)));
    let slow = world.controller_of(slow, Settings { ask_timeout: SOON, ..settings() });
    let acting = running(&slow);
    reached.notified().await;

    let mut back = Box::pin(controller.rollback(None, "a test"));
    tokio::select! {
        back = &mut back => panic!("a fence is open, yet: {back:?}"),
        () = world.someone_waits() => {}
    }
    acting.abort();
    // The fence was never committed: no key is away.
    assert_eq!(back.await.unwrap().to.stage, Stage::Following);
    assert_eq!(world.owner("k").await.epoch, Epoch::BIRTH);

    let next = running(&controller);
    eventually("the other leads", async || {
        controller.status().await.unwrap().controller.as_deref() == Some(controller.name())
    })
    .await;
    assert_eq!(world.number("select count(*) from shop.given").await, 0);
    next.abort();
    world.end().await;
}
