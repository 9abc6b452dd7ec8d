//! Entering `following` gives each key an owner, whatever happens meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sqlx::postgres::PgTransaction;
use strangler::{
    Applied, BoxError, Domain, Epoch, Error, Home, Key, KeyCopy, Movable, Pinned, Settings, Stage,
};

use crate::births::bear_for_ever;
use crate::world::{Shop, World, following, refusal, settings};

const WITHOUT_OWNER: &str = "select count(*) from shop.payment p
    where not exists (select from strangler.owner o where o.migration = 'payments' and o.key = p.key)";

/// A domain that misbehaves at some call for keys.
struct Odd {
    shop: Shop,
    calls: AtomicUsize,
    oddity: Oddity,
}

enum Oddity {
    /// Fails at this call.
    FailsAt(usize),
    /// At the end of each of the first passes, a key appears that nobody assigned.
    Forgets { passes: usize },
    /// Answers the same keys for ever.
    StandsStill,
}

impl Odd {
    fn new(world: &World, oddity: Oddity) -> Arc<Self> {
        Arc::new(Self { shop: world.shop.clone(), calls: AtomicUsize::new(0), oddity })
    }
}

#[async_trait::async_trait]
impl Movable for Odd {
    async fn begin(&self) -> Result<PgTransaction<'static>, BoxError> {
        self.shop.begin().await
    }

    async fn pinned(&self, tx: &mut PgTransaction<'_>, keys: &[String]) -> Result<Vec<Pinned>, BoxError> {
        self.shop.pinned(tx, keys).await
    }

    async fn give(&self, tx: &mut PgTransaction<'_>, keys: &[(String, Epoch)]) -> Result<(), BoxError> {
        self.shop.give(tx, keys).await
    }

    async fn gained(&self, tx: &mut PgTransaction<'_>, keys: &[String]) -> Result<(), BoxError> {
        self.shop.gained(tx, keys).await
    }

    async fn known(&self, tx: &mut PgTransaction<'_>, keys: &[String]) -> Result<Vec<String>, BoxError> {
        self.shop.known(tx, keys).await
    }

    async fn snapshot(&self, tx: &mut PgTransaction<'_>, keys: &[String]) -> Result<Vec<Pinned>, BoxError> {
        self.shop.snapshot(tx, keys).await
    }

    async fn copies(
        &self,
        after: Option<&str>,
        upto: Option<&str>,
        limit: i64,
    ) -> Result<Vec<KeyCopy>, BoxError> {
        self.shop.copies(after, upto, limit).await
    }
}

#[async_trait::async_trait]
impl Domain for Odd {
    async fn keys(&self, after: Option<&str>, limit: i64) -> Result<Vec<Key>, BoxError> {
        match self.oddity {
            Oddity::FailsAt(n) if self.calls.fetch_add(1, Ordering::SeqCst) == n => {
                Err("the domain is away".into())
            }
            Oddity::StandsStill => self.shop.keys(None, 1).await,
            Oddity::Forgets { passes } => {
                let keys = self.shop.keys(after, limit).await?;
                // Only seeding asks for 500.
                if keys.is_empty() && limit == 500 && self.calls.fetch_add(1, Ordering::SeqCst) < passes {
                    self.shop
                        .insert("a", &format!("0-forgotten-{}", self.calls.load(Ordering::SeqCst)))
                        .await;
                }
                Ok(keys)
            }
            Oddity::FailsAt(_) => self.shop.keys(after, limit).await,
        }
    }

    async fn versions(&self, limit: i64) -> Result<Vec<(String, i64)>, BoxError> {
        self.shop.versions(limit).await
    }

    async fn reverse_feed(&self, keys: &[String]) -> Result<Applied, BoxError> {
        self.shop.reverse_feed(keys).await
    }

    async fn outcomes(&self) -> Result<Vec<String>, BoxError> {
        self.shop.outcomes().await
    }
}

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
