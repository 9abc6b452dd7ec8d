//! Heartbeats: sent by a home, noted by the other one, and no business of anybody else.

use proto::{HEARTBEAT_KEYS, PaymentFeed};

use super::*;
use crate::{beat, heard};

/// A home sends its next one.
async fn sent(world: &World, home: &str) -> Result<i64, Error> {
    let mut tx = world.home.pool.begin().await?;
    let number = beat(&mut tx, home).await?;
    tx.commit().await?;
    Ok(number)
}

/// A heartbeat of a home comes to this one, as the replica gets it after its gate.
async fn comes(world: &World, home: &str, version: i64) -> time::OffsetDateTime {
    let beat = wire::FeedHeartbeat { home: home.to_owned() };
    let key = outbox::Event::key(&beat).to_owned();
    let meta = Meta { key, ..meta(PaymentId::new(), version) };
    let at = meta.time;
    let replicate = Replicate::new(world.home.clone(), world.owns.clone());
    let mut tx = world.home.pool.begin().await.unwrap();
    replicate.apply(&mut tx, Received { event: PaymentFeed::Heartbeat(beat), meta }).await.unwrap();
    tx.commit().await.unwrap();
    at
}

#[tokio::test]
async fn a_home_sends_on_its_own_key_and_under_no_other_name() {
    let world = World::new("beats").await;
    assert_eq!(sent(&world, "source").await.unwrap(), 1);
    assert_eq!(sent(&world, "source").await.unwrap(), 2);
    assert!(sent(&world, "elsewhere").await.is_err());
    let rows: Vec<(String, String, i64)> =
        sqlx::query_as("select topic, key, version from outbox.event order by position")
            .fetch_all(&world.admin)
            .await
            .unwrap();
    let row = |version| (PAYMENTS.name().to_owned(), HEARTBEAT_KEYS[0].to_owned(), version);
    assert_eq!(rows, [row(1), row(2)]);
    world.end().await;
}

#[tokio::test]
async fn the_last_heartbeat_of_the_other_home_is_noted_and_nothing_else_changes() {
    let world = World::new("hears").await;
    assert_eq!(heard(&world.home.pool).await.unwrap(), None);
    // The first of a stream comes to both homes; one's own is no sign of the other one.
    comes(&world, "source", 1).await;
    assert_eq!(heard(&world.home.pool).await.unwrap(), None);

    comes(&world, "target", 1).await;
    // Those between may be missing: each may be the first that is read.
    let at = comes(&world, "target", 9).await;
    let last = heard(&world.home.pool).await.unwrap().unwrap();
    assert_eq!(last.sequence, 9);
    assert_eq!(last.sent_at.unix_timestamp(), at.unix_timestamp());
    assert!(last.age < SOON, "{last:?}");

    let sql = "update payments.heartbeat set received_at = clock_timestamp() - interval '1 minute'";
    sqlx::query(sql).execute(&world.admin).await.unwrap();
    let last = heard(&world.home.pool).await.unwrap().unwrap();
    assert!(last.age >= Duration::from_secs(60), "{last:?}");

    assert!(crate::copies(&world.home.pool, None, None, 10).await.unwrap().is_empty());
    world.end().await;
}

#[test]
fn a_replica_may_begin_with_any_heartbeat() {
    use outbox::Event as _;
    assert!(Replicate::is_snapshot(wire::FeedHeartbeat::KIND));
}
