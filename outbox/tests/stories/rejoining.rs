//! Members of a group that begin to read late, or again, while others have put the group elsewhere.

use std::{
    cell::RefCell,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use outbox::{
    BoxError, Error, Inbox, Message, Place, Source, Topic, kafka,
    memory::{Memory, MemorySource},
};
use tokio::sync::{Notify, Semaphore, watch};

use crate::{
    line::texts,
    starts::{Early, Late, Running, Stage, run},
    world::{NOTES, until},
};

/// A member that joins when the story lets it, and that the story throws out of its group.
#[derive(Clone)]
struct Loose(Arc<Inner>);

struct Inner {
    memory: Memory,
    source: Mutex<Arc<MemorySource>>,
    changed: Notify,
    /// It has settled its start, and is about to join.
    comes: watch::Sender<bool>,
    joins: Semaphore,
}

impl Loose {
    fn new(stage: &Stage, joins: usize) -> Self {
        let source = Mutex::new(Arc::new(stage.memory.source("group")));
        let (memory, joins) = (stage.memory.clone(), Semaphore::new(joins));
        Self(Arc::new(Inner {
            memory,
            source,
            changed: Notify::new(),
            comes: watch::Sender::new(false),
            joins,
        }))
    }

    fn source(&self) -> MutexGuard<'_, Arc<MemorySource>> {
        self.0.source.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Arc<MemorySource> {
        self.source().clone()
    }

    /// As a broker does whose session with it is over.
    fn is_thrown_out(&self) {
        *self.source() = Arc::new(self.0.memory.source("group"));
        self.0.changed.notify_one();
    }

    /// As librdkafka does: nobody calls [`Source::start`].
    async fn joins_by_itself(&self) -> Result<(), Error> {
        self.now().start(&[NOTES], &[]).await?;
        self.0.changed.notify_one();
        Ok(())
    }

    async fn has_settled(&self) -> Result<(), BoxError> {
        until(true, async || Ok(*self.0.comes.borrow())).await
    }
}

#[async_trait]
impl Source for Loose {
    fn group(&self) -> &str {
        "group"
    }

    async fn places(&self, topics: &[Topic]) -> Result<Vec<Place>, Error> {
        self.now().places(topics).await
    }

    async fn bounds(&self, places: &[Place]) -> Result<Vec<(i64, i64)>, Error> {
        self.now().bounds(places).await
    }

    async fn reposition(&self, places: &[Place]) -> Result<(), Error> {
        self.now().reposition(places).await
    }

    async fn start(&self, topics: &[Topic], places: &[Place]) -> Result<(), Error> {
        self.0.comes.send_replace(true);
        self.0.joins.acquire().await.map_err(|error| Error::Broker(error.to_string()))?.forget();
        self.now().start(topics, places).await
    }

    async fn recv(&self) -> Result<Message, Error> {
        loop {
            let source = self.now();
            tokio::select! {
                message = source.recv() => return message,
                () = self.0.changed.notified() => {}
            }
        }
    }

    fn done(&self, topic: &str, partition: i32, offset: i64) -> Result<(), Error> {
        self.now().done(topic, partition, offset)
    }

    fn hold(&self, held: bool) {
        self.now().hold(held);
    }

    fn assigned(&self) -> Vec<Place> {
        self.now().assigned()
    }

    fn noted(&self) -> Vec<Place> {
        self.now().noted()
    }
}

fn both(stage: &Stage) -> Inbox<MemorySource> {
    stage.inbox("group").register(Early).register(Late)
}

fn without_late(stage: &Stage, source: &Loose) -> Running {
    run(Inbox::new(stage.home.module.clone(), source.clone()).register(Early))
}

const MISSED: &str =
    "select coalesce(missed_from::text, 'reads') from outbox.reader where handler = 'test.late'";

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_joins_again_without_a_start_leaves_its_groups_other_handler_out()
-> Result<(), BoxError> {
    let stage = Stage::new("again").await?;
    let running = run(both(&stage));
    stage.put("a", 1);
    stage.done("late", &["a1"]).await?;
    running.stop().await?;
    let loose = Loose::new(&stage, 1);
    let old = without_late(&stage, &loose);
    stage.put("a", 2);
    stage.done("early", &["a1", "a2"]).await?;
    // Its session is over; the handler is taken back into the group meanwhile.
    loose.is_thrown_out();
    let new = run(both(&stage));
    stage.done("late", &["a1", "a2"]).await?;
    assert_eq!(texts(&stage.home, MISSED).await?, ["reads"]);
    // The partition becomes the older member's.
    loose.joins_by_itself().await?;
    stage.put("a", 3);
    stage.done("early", &["a1", "a2", "a3"]).await?;
    assert_ne!(texts(&stage.home, MISSED).await?, ["reads"], "said before anything of it is handled");
    old.stop().await?;
    drop(loose);
    new.stop().await?;
    let new = run(both(&stage));
    stage.done("late", &["a1", "a2", "a3"]).await?;
    new.stop().await?;
    stage.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_member_reads_without_a_handler_counts_from_where_it_begins_to_read() -> Result<(), BoxError> {
    let stage = Stage::new("begins").await?;
    let running = run(both(&stage));
    stage.put("a", 1);
    stage.done("late", &["a1"]).await?;
    running.stop().await?;
    let running = without_late(&stage, &Loose::new(&stage, 1));
    stage.put("a", 2);
    stage.done("early", &["a1", "a2"]).await?;
    running.stop().await?;
    // The older member finds the group at 2; before it joins, another one puts it back to 1, for the handler.
    let (older, newer) = (Loose::new(&stage, 0), Loose::new(&stage, 0));
    let old = without_late(&stage, &older);
    older.has_settled().await?;
    let new = run(Inbox::new(stage.home.module.clone(), newer.clone()).register(Early).register(Late));
    newer.has_settled().await?;
    assert_eq!(texts(&stage.home, MISSED).await?, ["reads"]);
    older.0.joins.add_permits(1);
    until(vec!["{1}".to_owned()], async || texts(&stage.home, MISSED).await).await?;
    stage.put("a", 3);
    stage.done("early", &["a1", "a2", "a3"]).await?;
    old.stop().await?;
    drop(older);
    newer.0.joins.add_permits(1);
    new.stop().await?;
    drop(newer);
    let running = run(both(&stage));
    stage.done("late", &["a1", "a2", "a3"]).await?;
    running.stop().await?;
    stage.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_tells_where_an_assignment_begins() -> Result<(), BoxError> {
    let stage = Stage::new("assigned").await?;
    let source = kafka::source(&stage.world.kafka, "group")?;
    until(true, async || Ok(source.places(&[NOTES]).await.is_ok())).await?;
    let mut places = source.places(&[NOTES]).await?;
    places[0].position = Some(0);
    // A coordinator that is not there yet is a passing fault.
    until(true, async || Ok(source.reposition(&places[..1]).await.is_ok())).await?;
    assert_eq!(source.assigned(), []);
    source.start(&[NOTES], &places).await?;
    let reading = async || loop {
        if let Err(error) = source.recv().await {
            return error;
        }
    };
    let told = RefCell::new(Vec::new());
    let telling = until(places.len(), async || {
        told.borrow_mut().extend(source.assigned());
        Ok(told.borrow().len())
    });
    tokio::select! {
        all = telling => all?,
        error = reading() => return Err(error.into()),
    }
    let told = told.into_inner();
    for place in &places {
        assert!(told.contains(place), "{place:?} is not in {told:?}");
    }
    assert_eq!(source.assigned(), [], "told once");
    drop(source);
    stage.end().await
}
