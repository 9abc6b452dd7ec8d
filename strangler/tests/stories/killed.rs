//! A controller that dies after any step leaves nothing that the next one does not end.

use std::sync::Arc;

use async_trait::async_trait;
use strangler::{
    Applied, BoxError, Checksum, Controller, Decisions, Epoch, Health, Heard, Home, KeyCopy, Memory, Peer,
    Pinned, Reply, Settings,
};
use time::OffsetDateTime;
use tokio::sync::Notify;

use crate::forward::running;
use crate::odd::{Odd, Oddity};
use crate::world::{MIGRATION, SOON, World, settings};

/// A target whose answer to one call is lost, as the asker dies.
struct Lost {
    memory: Memory,
    at: &'static str,
    reached: Arc<Notify>,
}

impl Lost {
    async fn here(&self, at: &'static str) {
        if self.at == at {
            self.reached.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl Peer for Lost {
    async fn health(&self) -> Result<Health, BoxError> {
        self.memory.health().await
    }

    async fn applied(&self, keys: &[String]) -> Result<Applied, BoxError> {
        Peer::applied(&self.memory, keys).await
    }

    async fn published(&self, limit: i64) -> Result<Vec<(String, i64)>, BoxError> {
        Peer::published(&self.memory, limit).await
    }

    async fn beat(&self) -> Result<(), BoxError> {
        self.memory.beat().await
    }

    async fn heard(&self) -> Result<Heard, BoxError> {
        self.memory.heard().await
    }

    async fn ready(&self, keys: &[(String, Epoch)]) -> Result<Vec<(String, Reply)>, BoxError> {
        let replies = self.memory.ready(keys).await;
        self.here("ready").await;
        replies
    }

    async fn grant(&self, keys: &[(String, Epoch)]) -> Result<Vec<(String, Reply)>, BoxError> {
        self.here("before the grant").await;
        let replies = self.memory.grant(keys).await;
        self.here("grant").await;
        replies
    }

    async fn recall(&self, keys: &[(String, Epoch)]) -> Result<Vec<(String, Reply)>, BoxError> {
        self.here("before the recall").await;
        let replies = self.memory.recall(keys).await;
        self.here("recall").await;
        replies
    }

    async fn known(&self, keys: &[String]) -> Result<Vec<String>, BoxError> {
        self.memory.known(keys).await
    }

    async fn copies(
        &self,
        after: Option<&str>,
        upto: Option<&str>,
        limit: i64,
    ) -> Result<Vec<KeyCopy>, BoxError> {
        self.memory.copies(after, upto, limit).await
    }

    async fn checksum(
        &self,
        after: Option<&str>,
        upto: Option<&str>,
        limit: i64,
    ) -> Result<Checksum, BoxError> {
        self.memory.checksum(after, upto, limit).await
    }

    async fn repair(&self, keys: &[String]) -> Result<Vec<Pinned>, BoxError> {
        self.memory.repair(keys).await
    }

    async fn decisions(&self, since: OffsetDateTime) -> Result<Decisions, BoxError> {
        Peer::decisions(&self.memory, since).await
    }
}

/// A controller that never gets past a point, and who tells when it is there.
fn mortal(world: &World, at: &'static str) -> (Controller, Arc<Notify>) {
    let reached = Arc::new(Notify::new());
    let domain = Odd::new(world, Oddity::DiesAt(at, Arc::clone(&reached)));
    let peer = Lost { memory: world.target.clone(), at, reached: Arc::clone(&reached) };
    let patient = Settings { ask_timeout: SOON, ..settings() };
    let pool = world.controller_pool.clone();
    (Controller::with(MIGRATION, pool, domain, Arc::new(peer), patient), reached)
}

async fn die(world: &World, at: &'static str) {
    let (mortal, reached) = mortal(world, at);
    let acting = running(&mortal);
    tokio::time::timeout(SOON, reached.notified()).await.unwrap_or_else(|_| panic!("never reached: {at}"));
    acting.abort();
    assert!(acting.await.is_err());
}

#[tokio::test]
async fn killed_on_the_way_forward_the_next_one_ends_it() {
    for at in ["pinned", "give", "ready", "before the grant", "grant"] {
        let world = World::new().await;
        let controller = world.primary(&["a", "b"]).await;
        let relay = world.relay();
        die(&world, at).await;
        let acting = running(&controller);
        for key in ["a", "b", "first"] {
            world.settled(key, Home::Target).await;
            assert_eq!(world.owner(key).await.epoch, Epoch(3), "{at}: it moved once");
        }
        crate::world::eventually("the target has confirmed them", async || {
            controller.status().await.unwrap().keys.granting == 0
        })
        .await;
        acting.abort();
        relay.end().await;
        world.end().await;
    }
}

#[tokio::test]
async fn killed_on_the_way_back_the_next_one_ends_it() {
    for at in ["before the recall", "recall"] {
        let world = World::new().await;
        let controller = world.ramp(100).await;
        world.born("a", "k").await;
        controller.rollback(None, "a test").await.unwrap();
        let relay = world.relay();
        die(&world, at).await;
        let acting = running(&controller);
        world.settled("k", Home::Source).await;
        assert_eq!(world.owner("k").await.epoch, Epoch(3), "{at}: it came back once");
        acting.abort();
        relay.end().await;
        world.end().await;
    }
}
