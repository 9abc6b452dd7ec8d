//! A relay whose database, or whose whole process, says nothing for a while.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use outbox::{BoxError, Error, Record, Refusal, Relay, RelayOptions, Sink};
use tokio::sync::watch;

use crate::{
    fickle::{Fickle, Manners},
    relay::{Running, brisk, heads},
    wire::{Weather, Wire},
    world::{Home, noted, until},
};

/// Within this time a silent database is noticed, and one that answers is found again.
const NOTICED: Duration = Duration::from_secs(20);

fn bounded() -> RelayOptions {
    RelayOptions {
        query_timeout: Duration::from_millis(500),
        drain_timeout: Duration::from_millis(500),
        ..brisk()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_says_nothing_is_left_and_found_again() -> Result<(), BoxError> {
    let home = Home::new(stack::shared().await?, "silent", "test.notes").await?;
    let wire = Wire::to(&home.relay).await?;
    let fickle = Fickle::new(1, Manners::default());
    let first = Relay::new(wire.pool(), fickle.clone()).with(bounded());
    let mut status = first.status();
    let first = Running::start(first);
    status.wait_for(|status| status.buckets == 64 && status.is_ready()).await?;
    home.publish(&noted("a", 1)).await?;
    until(0, || home.pending()).await?;

    wire.turn(Weather::Silent);
    home.publish(&noted("a", 2)).await?;
    let lapsed = status.wait_for(|status| status.buckets == 0);
    let found = tokio::time::timeout(NOTICED, lapsed).await??.clone();
    assert!(!found.is_ready() && found.faults()[0].contains("can't use its database"), "{found:?}");
    let second = Running::start(Relay::new(home.relay.clone(), fickle.clone()).with(bounded()));
    until(0, || home.pending()).await?;

    wire.turn(Weather::Fair);
    let back = status.wait_for(|status| status.buckets == 32 && status.is_ready());
    tokio::time::timeout(NOTICED, back).await??;
    home.publish(&noted("a", 3)).await?;
    until(0, || home.pending()).await?;
    first.stop().await?;
    second.stop().await?;
    fickle.judge(&heads(&home.admin).await?)?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_a_database_that_is_away() -> Result<(), BoxError> {
    for (name, weather) in [("stopsilent", Weather::Silent), ("stopcut", Weather::Cut)] {
        let home = Home::new(stack::shared().await?, name, "test.notes").await?;
        let wire = Wire::to(&home.relay).await?;
        let manners = Manners { lane: Some("a".into()), lane_hangs: true, ..Manners::default() };
        let fickle = Fickle::new(2, manners);
        home.publish(&noted("a", 1)).await?;
        let relay = Running::start(Relay::new(wire.pool(), fickle.clone()).with(bounded()));
        until(1, async || Ok(fickle.met_dead_lane())).await?;
        // It is delivered, and nobody can note that.
        wire.turn(weather);
        fickle.change(|manners| manners.lane_hangs = false);
        until(vec![1], async || Ok(fickle.versions("a"))).await?;
        let before = wire.attempts();
        tokio::time::timeout(Duration::from_secs(5), relay.stop()).await??;
        assert!(wire.attempts() - before < 100, "{} connections while it stopped", wire.attempts() - before);
        let next = Running::start(Relay::new(home.relay.clone(), fickle.clone()).with(brisk()));
        until(0, || home.pending()).await?;
        assert_eq!(fickle.versions("a"), [1, 1], "sent again");
        next.stop().await?;
        drop(wire);
        home.drop_now().await?;
    }
    Ok(())
}

/// A broker that a paused process reaches late.
struct Late {
    broker: Fickle,
    paused: watch::Receiver<bool>,
    begun: Arc<AtomicUsize>,
}

#[async_trait]
impl Sink for Late {
    async fn send(&self, record: Record) -> Result<(), Refusal> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let _ = self.paused.clone().wait_for(|paused| !paused).await;
        self.broker.send(record).await
    }

    async fn check(&self) -> Result<(), Error> {
        self.broker.check().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_slept_over_its_lease_repeats_and_overtakes_nothing() -> Result<(), BoxError> {
    const KEYS: usize = 10;
    let home = Home::new(stack::shared().await?, "slept", "test.notes").await?;
    for text in 1..=5 {
        for key in 0..KEYS {
            home.publish(&noted(&format!("key-{key}"), text)).await?;
        }
    }
    let wire = Wire::to(&home.relay).await?;
    let fickle = Fickle::new(3, Manners::default());
    let (paused, begun) = (watch::Sender::new(true), Arc::<AtomicUsize>::default());
    let late = Late { broker: fickle.clone(), paused: paused.subscribe(), begun: begun.clone() };
    let slept = Relay::new(wire.pool(), late).with(brisk());
    let mut status = slept.status();
    let slept = Running::start(slept);
    // The first of each key is on its way, the others are in memory; then nothing moves.
    until(KEYS, async || Ok(begun.load(Ordering::SeqCst))).await?;
    wire.turn(Weather::Silent);
    let other = Running::start(Relay::new(home.relay.clone(), fickle.clone()).with(brisk()));
    until(0, || home.pending()).await?;
    assert_eq!(fickle.kept().len(), 5 * KEYS);
    // It wakes up, and all that it had under way arrives behind what the other has sent.
    paused.send_replace(false);
    wire.turn(Weather::Fair);
    status.wait_for(|status| status.buckets == 32).await?;
    for key in 0..KEYS {
        home.publish(&noted(&format!("key-{key}"), 6)).await?;
    }
    until(0, || home.pending()).await?;
    slept.stop().await?;
    other.stop().await?;
    let repeats = fickle.judge(&heads(&home.admin).await?)?;
    assert!(repeats >= KEYS, "{repeats} repeats: it proves nothing");
    home.drop_now().await
}
