//! Entering `following` gives each key an owner, whatever happens meanwhile.

use strangler::{Error, Home, Settings, Stage};

use crate::births::bear_for_ever;
use crate::odd::{Odd, Oddity};
use crate::world::{World, following, refusal, settings};

const WITHOUT_OWNER: &str = "select count(*) from shop.payment p
    where not exists (select from strangler.owner o where o.migration = 'payments' and o.key = p.key)";

/// Payments of which the target knows nothing.
pub(crate) async fn old_payments(world: &World) {
    world
        .execute(
            "insert into shop.payment (key, tenant) select 'old-' || n, 'a' from generate_series(1, 2300) n",
        )
        .await;
}

#[tokio::test]
async fn seeding_leaves_no_key_out_under_births() {
    let world = World::new().await;
    old_payments(&world).await;
    let births = bear_for_ever(&world, 4);
    let step = world.controller().advance(&following(), "a test").await.unwrap();
    drop(births);

    assert_eq!((step.entered, step.to.stage, step.seeded), (true, Stage::Following, 2300));
    assert_eq!(world.number(WITHOUT_OWNER).await, 0);
    assert_eq!(world.owner("old-77").await.home, Home::Source);
    assert_eq!(world.number("select count(*) from strangler.owner where born_revision = 0").await, 2300);
    world.end().await;
}

#[tokio::test]
async fn seeding_goes_on_where_it_stopped() {
    let world = World::new().await;
    old_payments(&world).await;
    let odd = world.controller_of(Odd::new(&world, Oddity::FailsAt(3)), settings());
    assert!(matches!(odd.advance(&following(), "a test").await, Err(Error::Domain(_))));
    assert_eq!(world.number("select seeded from strangler.seeding").await, 1500);
    assert_eq!(odd.status().await.unwrap().policy.stage, Stage::Local);

    let step = odd.advance(&following(), "a test").await.unwrap();
    assert_eq!(step.seeded, 800);
    assert_eq!(world.number(WITHOUT_OWNER).await, 0);
    world.end().await;
}

#[tokio::test]
async fn a_key_that_appears_behind_seeding_is_found_under_the_lock() {
    let world = World::new().await;
    old_payments(&world).await;
    let once = world.controller_of(Odd::new(&world, Oddity::Forgets { passes: 1 }), settings());
    let step = once.advance(&following(), "a test").await.unwrap();
    assert_eq!(step.seeded, 2301);
    assert_eq!(world.number(WITHOUT_OWNER).await, 0);
    world.end().await;
}

#[tokio::test]
async fn a_domain_that_keeps_forgetting_owners_is_refused() {
    let world = World::new().await;
    old_payments(&world).await;
    let always = world.controller_of(Odd::new(&world, Oddity::Forgets { passes: usize::MAX }), settings());
    let said = refusal(always.advance(&following(), "a test").await);
    assert!(said.contains("0-forgotten-") && said.contains("assign their owner"), "{said}");
    assert_eq!(always.status().await.unwrap().policy.stage, Stage::Local);
    world.end().await;
}

#[tokio::test]
async fn a_domain_that_stands_still_is_not_asked_for_ever() {
    let world = World::new().await;
    old_payments(&world).await;
    let still = world.controller_of(Odd::new(&world, Oddity::StandsStill), Settings::default());
    let error = still.advance(&following(), "a test").await.unwrap_err();
    assert!(error.to_string().contains("do not move on"), "{error}");
    world.end().await;
}
