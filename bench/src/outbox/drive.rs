//! Runs a relay over what is committed, waits for its end, and has it verified.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rdkafka::consumer::BaseConsumer;
use tokio::time::sleep;

use super::{
    profile::{Perf, Sessions},
    verify::{self, Seen},
};
use crate::{
    cpu::{self, Usage, Used},
    ground::{self, Ground, Scene},
    limits::per_second,
    process::Process,
    report::{Delivery, Share},
};

/// How long a backlog may take; one that takes longer is an error, and says how far it came.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(1_200);

/// How often we look how far a relay is: rarely, since looking costs it processor time.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A contender whose database does not say what is undelivered has ended when its topic is this long without a new record.
const SILENCE: Duration = Duration::from_secs(5);

/// One drained backlog.
pub(crate) struct Drained {
    /// First deliveries a second, between the first and the last append at the broker.
    pub(crate) rate: f64,
    pub(crate) events: u64,
    pub(crate) used: Used,
    pub(crate) peak_mb: f64,
    pub(crate) delivery: Delivery,
    /// What a close look saw.
    pub(crate) shares: Vec<Share>,
}

/// Whether a drain is looked into.
#[derive(Clone, Copy)]
pub(crate) enum Look<'a> {
    /// Undisturbed.
    Away,
    /// With samples, under this name.
    Closely(&'a str),
}

/// A look at the end of a topic.
pub(crate) struct Tail {
    consumer: Arc<BaseConsumer>,
    topic: String,
}

impl Tail {
    pub(crate) fn new(ground: &Ground, topic: String) -> Result<Self> {
        let consumer = ground::client(ground.stack.kafka()).set("group.id", "tail").create()?;
        Ok(Self { consumer: Arc::new(consumer), topic })
    }

    /// Records in the topic.
    pub(crate) async fn records(&self) -> Result<u64> {
        let (consumer, topic) = (self.consumer.clone(), self.topic.clone());
        let ends = tokio::task::spawn_blocking(move || verify::ends(&consumer, &topic)).await??;
        Ok(u64::try_from(ends.values().sum::<i64>())?)
    }
}

/// All committed events of a scene.
pub(crate) async fn committed(scene: &Scene) -> Result<u64> {
    let all = scene.committed().await?.values().sum::<i64>();
    Ok(u64::try_from(all)?)
}

/// Waits until the topic has `records` records; fails when the relay ends before.
pub(crate) async fn reach(tail: &Tail, relay: &mut Process, records: u64) -> Result<()> {
    let began = Instant::now();
    loop {
        let now = tail.records().await?;
        if now >= records {
            return Ok(());
        }
        relay.check()?;
        if began.elapsed() > DRAIN_TIMEOUT {
            bail!("{now} of {records} records after {} s", DRAIN_TIMEOUT.as_secs());
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Waits until nothing is undelivered, and answers when the last record was seen. Whatever is missing after the time is up, the
/// verifier counts as lost.
pub(crate) async fn finish(
    scene: &Scene,
    tail: &Tail,
    relay: &mut Process,
    timeout: Duration,
) -> Result<Instant> {
    let committed = committed(scene).await?;
    let began = Instant::now();
    let (mut records, mut grew) = (0, Instant::now());
    while began.elapsed() < timeout {
        relay.check()?;
        let now = tail.records().await?;
        if now > records {
            (records, grew) = (now, Instant::now());
        }
        match scene.contender.undelivered(&scene.pool).await? {
            Some(false) => return Ok(grew),
            Some(true) => {}
            None if records >= committed && grew.elapsed() > SILENCE => return Ok(grew),
            None => {}
        }
        sleep(LOOK_EVERY).await;
    }
    eprintln!("{}: not all was delivered within {} s", scene.contender.name(), timeout.as_secs());
    Ok(grew)
}

/// Has the verifier read a scene's topic. `after`: the versions of each key that were there before what is measured.
pub(crate) async fn verified(ground: &Ground, scene: &Scene, after: HashMap<String, i64>) -> Result<Seen> {
    verify::topic(ground.stack.kafka(), &scene.topic(), scene.committed().await?, after).await
}

/// Lets a relay go over a backlog that is there, and measures it until all is delivered.
pub(crate) async fn drain(
    ground: &Ground,
    scene: &Scene,
    mut relay: Process,
    after: HashMap<String, i64>,
    look: Look<'_>,
) -> Result<Drained> {
    let target = committed(scene).await?;
    let tail = Tail::new(ground, scene.topic())?;
    let before = Usage::now(ground, &relay)?;
    relay.resume()?;
    let sampled = match look {
        Look::Away => None,
        Look::Closely(name) => Some((name, Sessions::start(&scene.pool), Perf::start(ground, relay.pid()))),
    };
    reach(&tail, &mut relay, target).await?;
    let used = Usage::now(ground, &relay)?.since(&before);
    finish(scene, &tail, &mut relay, DRAIN_TIMEOUT).await?;
    let peak_mb = cpu::peak_mb(relay.pid())?;
    relay.stop().await?;
    let mut shares = Vec::new();
    if let Some((name, sessions, perf)) = sampled {
        shares.extend(sessions.stop(name).await?);
        if let Some(perf) = perf {
            shares.extend(perf.stop(name).await?);
        }
    }
    let seen = verified(ground, scene, after).await?;
    let (first, last) = seen.span_ms.context("nothing was delivered")?;
    let span = Duration::from_millis(u64::try_from(last - first)?);
    let rate = per_second(seen.in_span, span.as_secs_f64());
    Ok(Drained { rate, events: seen.in_span, used, peak_mb, delivery: seen.delivery, shares })
}
