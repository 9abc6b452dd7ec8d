//! From the shop to the service and back.

use prices::Prices;
use strangler::{Advance, BoxError, Controller, Error, Home, Seam, Stage, Verdict};

use crate::place::Place;
use crate::world::{World, eventually};

/// Prices that the shop had before it had an outbox.
const OLD: &str = "insert into shop.price (sku, tenant, minor)
                   select 'old-' || n, 'acme', 100 * n from generate_series(1, 40) n";
const BY: &str = "a test";

/// Walks forward, a step at a time, until a stage is entered: over those that this version enters. For each step it does what an
/// operator does for its gates; a new gate is satisfied here.
async fn walk(controller: &Controller, until: Stage) -> Result<(), BoxError> {
    loop {
        let stage = controller.status().await?.policy.stage;
        if stage == until {
            return Ok(());
        }
        let next = stage.next().ok_or_else(|| format!("no stage comes after {stage}"))?;
        let step = match next {
            Stage::Following => {
                let metric = Some("p99 of the price list".to_owned());
                Advance { metric, ..Advance::to(next) }
            }
            Stage::Ramping => {
                filled(controller).await?;
                Advance::ramp(100)
            }
            Stage::Local
            | Stage::Shadowing
            | Stage::Reading
            | Stage::Primary
            | Stage::Sealed
            | Stage::Removed => Advance::to(next),
        };
        assert!(controller.advance(&step, BY).await?.entered);
    }
}

/// Returns once the target lacks nothing and the copies were compared.
async fn filled(controller: &Controller) -> Result<(), BoxError> {
    let done = async || {
        Ok::<_, BoxError>(controller.status().await?.backfill.is_some_and(|fill| fill.done_at.is_some()))
    };
    eventually("the backfill is done", done).await?;
    let parity = controller.parity(BY).await?;
    assert_eq!(parity.verdict, Verdict::Pass, "{}", parity.found);
    Ok(())
}

/// Changes a price wherever it lives.
async fn set(seam: &Seam<Prices>, sku: &str, minor: i64) -> Result<(), BoxError> {
    seam.write(sku, |home, _| async move { home.set(sku, minor).await }).await
}

/// Returns once a home has this price.
async fn shows(place: &Place, sku: &str, minor: i64) -> Result<(), BoxError> {
    let there = async || Ok::<_, BoxError>(place.prices.find(sku).await? == Some(minor));
    eventually(&format!("{sku} is {minor} there"), there).await
}

/// Returns once all keys are settled at a home that knows it.
async fn all_at(controller: &Controller, home: Home, count: i64) -> Result<(), BoxError> {
    let there = async || {
        let keys = controller.status().await?.keys;
        let settled = match home {
            Home::Source => keys.source,
            Home::Target => keys.target,
        };
        Ok::<_, BoxError>(settled == count && keys.granting == 0)
    };
    eventually(&format!("{count} keys are the {home}'s"), there).await
}

/// What a home says to a write of a price that is not its own.
async fn refused(place: &Place, sku: &str) -> Result<(), BoxError> {
    let error = place.prices.set(sku, 1).await.err().ok_or("it was written")?;
    assert!(matches!(error.downcast_ref::<Error>(), Some(Error::NotOwner { .. })), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn prices_go_to_their_service_and_come_back() -> Result<(), BoxError> {
    let mut world = World::new().await?;
    sqlx::raw_sql(OLD).execute(&world.source.admin).await?;
    world.follow(Home::Source)?;
    let port = world.serve().await?;
    let controller = world.control(port)?;
    let seam = world.seam();
    let shop = world.source.prices.clone();
    assert_eq!(shop.create(&world.owners, "acme", "early", 5).await?, Home::Source);

    // The service begins to follow: by the stream, and what is older than that by the backfill.
    world.follow(Home::Target)?;
    walk(&controller, Stage::Following).await?;
    shows(&world.target, "early", 5).await?;
    shows(&world.target, "old-40", 4_000).await?;
    set(&seam, "old-7", 777).await?;
    shows(&world.target, "old-7", 777).await?;
    refused(&world.target, "old-7").await?;

    // New prices are born there, and change there.
    walk(&controller, Stage::Ramping).await?;
    assert_eq!(shop.create(&world.owners, "acme", "new", 6).await?, Home::Target);
    set(&seam, "new", 66).await?;
    assert_eq!(world.target.prices.find("new").await?, Some(66));
    shows(&world.source, "new", 66).await?;

    // All others go after them.
    walk(&controller, Stage::Primary).await?;
    all_at(&controller, Home::Target, 42).await?;
    refused(&world.source, "old-7").await?;
    set(&seam, "old-7", 778).await?;
    assert_eq!(world.target.prices.find("old-7").await?, Some(778));

    // And back, with what was written meanwhile.
    controller.rollback(None, BY).await?;
    all_at(&controller, Home::Source, 42).await?;
    let back = async || Ok::<_, BoxError>(controller.status().await?.policy.stage == Stage::Following);
    eventually("the stage is following again", back).await?;
    assert_eq!(shop.find("old-7").await?, Some(778));
    assert_eq!(shop.find("new").await?, Some(66));
    refused(&world.target, "new").await?;
    set(&seam, "new", 67).await?;
    assert_eq!(shop.find("new").await?, Some(67));
    shows(&world.target, "new", 67).await?;
    filled(&controller).await?;
    world.end().await
}
