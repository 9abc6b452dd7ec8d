//! A member that is full: it keeps its bound while partitions come and go, and reads on afterwards.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use outbox::{
    BoxError, Error, Event as _, Handler, Headers, Inbox, InboxOptions, Message, Place, Received, Record,
    Sink as _, Source, Topic,
    kafka::{self, KafkaSource},
};
use sqlx::postgres::PgTransaction;
use tokio::{sync::Semaphore, task::JoinHandle};

use crate::world::{Home, NOTES, Noted, World, effect, until};

/// Waits for the story before each event.
struct Wait(Arc<Semaphore>);

impl Handler for Wait {
    const NAME: &'static str = "test.wait";
    type Event = Noted;

    async fn handle(&self, tx: &mut PgTransaction<'_>, event: Received<Noted>) -> Result<(), BoxError> {
        drop(self.0.acquire().await?);
        effect(tx, &event.meta.key, event.meta.version, "done").await
    }
}

/// What the member has read, and whether it holds its source back.
#[derive(Default)]
struct Seen {
    read: AtomicUsize,
    held: AtomicBool,
}

struct Counted {
    source: KafkaSource,
    seen: Arc<Seen>,
}

#[async_trait]
impl Source for Counted {
    fn group(&self) -> &str {
        self.source.group()
    }

    async fn places(&self, topics: &[Topic]) -> Result<Vec<Place>, Error> {
        self.source.places(topics).await
    }

    async fn bounds(&self, places: &[Place]) -> Result<Vec<(i64, i64)>, Error> {
        self.source.bounds(places).await
    }

    async fn reposition(&self, places: &[Place]) -> Result<(), Error> {
        self.source.reposition(places).await
    }

    async fn start(&self, topics: &[Topic], places: &[Place]) -> Result<(), Error> {
        self.source.start(topics, places).await
    }

    async fn recv(&self) -> Result<Message, Error> {
        let message = self.source.recv().await?;
        self.seen.read.fetch_add(1, Ordering::SeqCst);
        Ok(message)
    }

    fn done(&self, topic: &str, partition: i32, offset: i64) -> Result<(), Error> {
        self.source.done(topic, partition, offset)
    }

    fn hold(&self, held: bool) {
        self.source.hold(held);
        self.seen.held.store(held, Ordering::SeqCst);
    }

    fn assigned(&self) -> Vec<Place> {
        self.source.assigned()
    }

    fn noted(&self) -> Vec<Place> {
        self.source.noted()
    }
}

/// A member of the group that reads and deals with nothing, until it is dropped.
struct Idle(JoinHandle<()>);

impl Idle {
    async fn join(world: &World) -> Result<Self, BoxError> {
        let source = kafka::source(&world.kafka, "inbox")?;
        source.start(&[NOTES], &[]).await?;
        let read = Arc::new(AtomicUsize::new(0));
        let seen = read.clone();
        let reading = tokio::spawn(async move {
            loop {
                if source.recv().await.is_ok() {
                    seen.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        until(true, async || Ok(read.load(Ordering::SeqCst) > 0)).await?;
        Ok(Self(reading))
    }

    async fn leave(self) {
        self.0.abort();
        let _ = self.0.await;
    }
}

fn record(key: &str) -> Record {
    let mut headers = Headers::default();
    headers
        .set("ce_id", uuid::Uuid::now_v7().to_string())
        .set("ce_type", Noted::KIND)
        .set("ce_time", "2026-01-01T00:00:00Z")
        .set("banyan-version", "1")
        .set("banyan-origin", "test.elsewhere");
    let payload = format!(r#"{{"key": "{key}", "text": "x"}}"#).into_bytes();
    Record { topic: NOTES.name().into(), key: key.into(), payload, headers }
}

const RECORDS: i64 = 90;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_member_keeps_its_bound_while_partitions_come_and_go() -> Result<(), BoxError> {
    let mut world = World::new("held").await?;
    let home = Home::new(world.stack, "held", "test.notes").await?;
    let sink = kafka::sink(&world.kafka)?;
    for key in 0..RECORDS {
        sink.send(record(&format!("k{key}"))).await?;
    }
    let other = Idle::join(&world).await?;
    let (go_on, seen) = (Arc::new(Semaphore::new(0)), Arc::new(Seen::default()));
    let source = Counted { source: kafka::source(&world.kafka, "inbox")?, seen: seen.clone() };
    let options = InboxOptions {
        batch_max: 1,
        buffer_max: 4,
        hold_after: Duration::from_secs(2),
        ..InboxOptions::default()
    };
    let inbox = Inbox::new(home.module.clone(), source).register(Wait(go_on.clone())).with(options);
    world.spawn(|shutdown| inbox.run(shutdown));
    until(true, async || Ok(seen.held.load(Ordering::SeqCst))).await?;
    // Its partitions come to the full member, as new ones.
    other.leave().await;
    // And some go again: that one joins only after the full member has had them.
    let third = Idle::join(&world).await?;
    let read = seen.read.load(Ordering::SeqCst);
    assert!(
        (4..=8).contains(&read),
        "{read} records in hand, where 4 are allowed and one more of each partition"
    );
    go_on.add_permits(1);
    until(false, async || Ok(seen.held.load(Ordering::SeqCst))).await?;
    // What was paused when it went is read when it is back.
    third.leave().await;
    let done = async || {
        Ok(sqlx::query_scalar::<_, i64>("select count(*) from public.effect").fetch_one(&home.admin).await?)
    };
    until(RECORDS, done).await?;
    world.stop().await?;
    home.drop_now().await
}
