//! From the shop to the service and back.

use strangler::{Advance, BoxError, Error, Home, Reading, Stage};

use crate::operator::{OLD, Operator};
use crate::place::Place;
use crate::world::{World, eventually};

/// Makes prices that the shop had before it had an outbox.
const MAKE_OLD: &str = "insert into shop.price (sku, tenant, minor)
                        select 'old-' || n, 'acme', 100 * n from generate_series(1, $1) n";

/// A price at a home, as its owner has it.
async fn at(place: &Place, sku: &str) -> Result<i64, BoxError> {
    Ok(place.prices.find(sku, Reading::Owner).await?.minor)
}

/// Returns once a home has this price.
async fn shows(place: &Place, sku: &str, minor: i64) -> Result<(), BoxError> {
    // It may not be there yet.
    let there = async || Ok::<_, BoxError>(at(place, sku).await.is_ok_and(|found| found == minor));
    eventually(&format!("{sku} is {minor} there"), there).await
}

/// What a home says to a write of a price that is not its own.
async fn refused(place: &Place, sku: &str) -> Result<(), BoxError> {
    let error = place.prices.set(sku, 1).await.err().ok_or("it was written")?;
    assert!(matches!(error.downcast_ref::<Error>(), Some(Error::NotOwner { .. })), "{error}");
    Ok(())
}

/// The first ramp: one tenant's prices.
fn canary() -> Advance {
    Advance { tenants: Some(vec!["canary".to_owned()]), ..Advance::ramp(0) }
}

/// Lets one tenant's price be born at the target, and calls it home.
async fn drill(world: &World, operator: &Operator) -> Result<(), BoxError> {
    operator.enter(&canary()).await?;
    let shop = &world.source.prices;
    assert_eq!(shop.create(&world.owners, "canary", "feather", 7).await?, Home::Target);
    operator.roll_back().await?;
    operator.set("feather", 8).await?;
    assert_eq!(at(&world.source, "feather").await?, 8);
    refused(&world.target, "feather").await
}

#[tokio::test(flavor = "multi_thread")]
async fn prices_go_to_their_service_and_come_back() -> Result<(), BoxError> {
    let mut world = World::new().await?;
    sqlx::query(MAKE_OLD).bind(OLD).execute(&world.source.admin).await?;
    world.follow(Home::Source)?;
    let port = world.serve().await?;
    let operator = Operator { controller: world.control(port)?, seam: world.seam() };
    let shop = world.source.prices.clone();
    assert_eq!(shop.create(&world.owners, "acme", "early", 5).await?, Home::Source);

    // The service begins to follow: by the stream, and what is older than that by the backfill.
    world.follow(Home::Target)?;
    operator.walk(Stage::Following).await?;
    shows(&world.target, "early", 5).await?;
    shows(&world.target, "old-40", 4_000).await?;
    operator.set("old-7", 777).await?;
    shows(&world.target, "old-7", 777).await?;
    refused(&world.target, "old-7").await?;

    // Its answers are compared, then shown. Nobody sees a price that he has replaced.
    operator.walk(Stage::Reading).await?;
    operator.read_enough(&canary()).await?;
    operator.set("old-8", 888).await?;
    assert_eq!(operator.read("old-8").await?.minor, 888);
    refused(&world.target, "old-8").await?;

    // New prices are born there, and change there.
    drill(&world, &operator).await?;
    operator.walk(Stage::Ramping).await?;
    assert_eq!(shop.create(&world.owners, "acme", "new", 6).await?, Home::Target);
    operator.set("new", 66).await?;
    assert_eq!(at(&world.target, "new").await?, 66);
    shows(&world.source, "new", 66).await?;

    // All others go after them.
    operator.walk(Stage::Primary).await?;
    operator.all_at(Home::Target, 43).await?;
    refused(&world.source, "old-7").await?;
    operator.set("old-7", 778).await?;
    assert_eq!(at(&world.target, "old-7").await?, 778);

    // And back, with what was written meanwhile.
    operator.roll_back().await?;
    operator.all_at(Home::Source, 43).await?;
    assert_eq!(at(&world.source, "old-7").await?, 778);
    assert_eq!(at(&world.source, "new").await?, 66);
    refused(&world.target, "new").await?;
    operator.set("new", 67).await?;
    assert_eq!(at(&world.source, "new").await?, 67);
    shows(&world.target, "new", 67).await?;
    operator.filled().await?;
    world.end().await
}
