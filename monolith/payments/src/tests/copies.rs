//! What a home has, compared with the other one; and snapshots of many at once.

use super::stream::published;
use super::*;
use crate::{PaymentCopy, copies};

/// Publishes snapshots and returns those that could not be.
async fn snapshots(world: &World, ids: &[PaymentId]) -> Vec<(String, String)> {
    let mut tx = world.home.pool.begin().await.unwrap();
    let left = movable::snapshot(&mut tx, &named(ids)).await.unwrap();
    tx.commit().await.unwrap();
    left
}

async fn all(world: &World) -> Vec<PaymentCopy> {
    copies(&world.home.pool, None, None, 10).await.unwrap()
}

#[tokio::test]
async fn copies_made_from_snapshots_are_equal_and_an_altered_one_is_not() {
    let (owner, other) = (World::new("copies").await, World::new("copied").await);
    other.owns.0.store(false, Ordering::SeqCst);
    let mut ids =
        [owner.captured().await, owner.request("pm_card_visa", false).await, owner.captured().await];
    ids.sort_unstable_by_key(|id| id.uuid());
    assert_eq!(snapshots(&owner, &ids).await, []);
    for id in ids {
        let (version, snapshot) = published(&owner, id).await.pop().unwrap();
        assert!(matches!(snapshot, PaymentStream::Snapshot(_)), "{snapshot:?}");
        other.apply(id, version, snapshot).await.unwrap();
    }
    let here = all(&owner).await;
    assert_eq!(here.iter().map(|copy| copy.key.clone()).collect::<Vec<_>>(), named(&ids));
    assert_eq!(all(&other).await, here);
    // After one, up to another, and no more than asked for.
    let (after, upto) = (Some(here[0].key.as_str()), Some(here[1].key.as_str()));
    assert_eq!(copies(&owner.home.pool, after, None, 10).await.unwrap(), here[1..]);
    assert_eq!(copies(&owner.home.pool, after, upto, 10).await.unwrap(), here[1..2]);
    assert_eq!(copies(&owner.home.pool, None, None, 2).await.unwrap(), here[..2]);

    let sql = "update payments.payment set provider_ref = 'pi_other' where id = $1";
    sqlx::query(sql).bind(ids[1].uuid()).execute(&other.admin).await.unwrap();
    let there = all(&other).await;
    assert_eq!((&there[0], &there[2]), (&here[0], &here[2]));
    assert_eq!(there[1].version, here[1].version);
    assert_ne!(there[1].hash, here[1].hash);

    // Its owner's snapshot mends it.
    assert_eq!(snapshots(&owner, &ids[1..2]).await, []);
    let (version, snapshot) = published(&owner, ids[1]).await.pop().unwrap();
    other.apply(ids[1], version, snapshot).await.unwrap();
    assert_eq!(all(&other).await, all(&owner).await);
    owner.end().await;
    other.end().await;
}

#[tokio::test]
async fn a_snapshot_leaves_out_what_someone_holds_and_waits_for_no_outcome() {
    let world = World::new("left_out").await;
    let (held, open, unknown) = (world.captured().await, world.captured().await, PaymentId::new());
    world.provider.fail_next(crate::provider::Call::Refund, crate::provider::Fault::Lost);
    let desk = world.desk().answer_within(Duration::from_millis(300));
    let pending = desk.refund(&refund(open, Some(300), "open"), Epoch(0)).await;
    assert!(matches!(pending, Err(Error::OutcomePending(_))), "{pending:?}");
    let mut other = world.home.pool.begin().await.unwrap();
    store::lock(&mut other, held).await.unwrap();

    let left = snapshots(&world, &[held, open, unknown]).await;
    let why = |id: PaymentId, why: &str| (id.to_string(), why.to_owned());
    assert_eq!(
        left,
        [
            why(held, "another transaction has its row"),
            why(unknown, "its first event is not applied here yet"),
        ]
    );
    other.rollback().await.unwrap();
    assert_eq!((world.payment(open).await.version, world.payment(held).await.version), (3, 2));
    world.work().await;
    assert_eq!(world.payment(open).await.refunded_minor, 300);
    world.end().await;
}
