//! Heartbeats, as the migration's controller asks for them.

use proto::{HEARTBEAT_KEYS, PaymentFeed};
use strangler::control::Client as Control;
use strangler::{Heard, Peer as _};

use super::*;

impl World {
    /// A heartbeat of the source comes through the feed.
    async fn hears(&self, version: i64) {
        let beat = events::FeedHeartbeat { home: "source".into() };
        let meta = Meta { key: HEARTBEAT_KEYS[0].into(), version, ..meta(PaymentId::new()) };
        let replicate = Replicate::new(self.home.clone(), self.authority.clone());
        let mut tx = self.home.pool.begin().await.unwrap();
        replicate.apply(&mut tx, Received { event: PaymentFeed::Heartbeat(beat), meta }).await.unwrap();
        tx.commit().await.unwrap();
    }
}

#[tokio::test]
async fn the_source_has_heartbeats_published_and_asks_for_those_that_came() {
    let world = World::without_engine("heartbeats").await;
    let peer = Control::new(world.channel.clone(), bearer(AUDIENCE));
    peer.beat().await.unwrap();
    peer.beat().await.unwrap();
    let sent: Vec<(String, i64, String)> =
        sqlx::query_as("select key, version, origin from outbox.event order by position")
            .fetch_all(&world.admin)
            .await
            .unwrap();
    let one = |version| (HEARTBEAT_KEYS[1].to_owned(), version, "payments-service".to_owned());
    assert_eq!(sent, [one(1), one(2)]);
    // They are no keys that the feed is measured by: it has carried nothing yet.
    assert!(peer.published(10).await.unwrap().is_empty());

    assert_eq!(peer.heard().await.unwrap(), Heard::Nothing);
    world.hears(4).await;
    let Heard::Last(last) = peer.heard().await.unwrap() else { panic!("it has come") };
    assert_eq!(last.sequence, 4);
    assert!(last.age < SOON, "{last:?}");
    world.end().await;
}

#[tokio::test]
async fn nobody_but_the_source_has_heartbeats_published() {
    let world = World::without_engine("strange_beats").await;
    let other = Bearer::new(Issuer::new(ISSUER, &key()), "someone", AUDIENCE);
    let refused = Control::new(world.channel.clone(), other).beat().await;
    assert!(refused.is_err());
    let sent: i64 =
        sqlx::query_scalar("select count(*) from outbox.event").fetch_one(&world.admin).await.unwrap();
    assert_eq!(sent, 0);
    world.end().await;
}
