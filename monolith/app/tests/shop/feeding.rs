//! What the migration's controller measures the feed to the target by.

use std::sync::Arc;
use std::time::Duration;

use app::PaymentsDomain;
use outbox::Wake;
use strangler::Domain as _;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::fixture::World;
use crate::moving::Service;

/// A bound for an answer that waits for nothing.
const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_feed_is_measured_by_what_was_published_and_no_payment_is_read_for_it() -> anyhow::Result<()> {
    let world = World::open(Arc::new(Service::default())).await?;
    let domain = PaymentsDomain::new(
        world.shop.orders.clone(),
        world.admin.clone(),
        world.admin.clone(),
        TaskTracker::new(),
        Wake::default(),
    );
    let versions = async |limit| {
        let found = timeout(SOON, domain.versions(limit)).await?;
        found.map_err(|error| anyhow::anyhow!(error))
    };
    assert_eq!(versions(10).await?, [], "nothing was published");
    // Whoever reads the table of payments waits: it stands for one that is too large to be read.
    let mut tx = world.admin.begin().await?;
    sqlx::query("lock table payments.payment in access exclusive mode").execute(&mut *tx).await?;
    let mut keys = Vec::new();
    for n in 0..3 {
        let order = world.order(&format!("k-{n}")).await?;
        keys.push((order["payment_id"].as_str().unwrap_or_default().to_owned(), 1_i64));
    }
    let last = keys[2..].to_vec();
    assert_eq!(versions(1).await?, last, "the last one written");
    keys.sort();
    let mut found = versions(10).await?;
    found.sort();
    assert_eq!(found, keys, "before any of them was applied here");
    tx.rollback().await?;
    world.close().await
}
