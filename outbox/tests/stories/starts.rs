//! Where handlers begin, and what becomes of them when the group has others, or another name.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use outbox::{
    Baseline, BoxError, Error, Handler, Inbox, Message, Place, Received, Record, Sink as _, Source, Topic,
    kafka,
    memory::{Memory, MemorySource},
};
use sqlx::{PgPool, postgres::PgTransaction};
use tokio::{sync::Semaphore, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    line::texts,
    scripted::line,
    world::{Home, NOTES, Noted, World, effect, until},
};

/// Writes down what it gets.
pub(crate) struct Early;
/// The same, beside it.
pub(crate) struct Late;

impl Handler for Early {
    const NAME: &'static str = "test.early";
    type Event = Noted;

    async fn handle(&self, tx: &mut PgTransaction<'_>, event: Received<Noted>) -> Result<(), BoxError> {
        effect(tx, &event.meta.key, event.meta.version, "early").await
    }
}

impl Handler for Late {
    const NAME: &'static str = "test.late";
    type Event = Noted;

    async fn handle(&self, tx: &mut PgTransaction<'_>, event: Received<Noted>) -> Result<(), BoxError> {
        effect(tx, &event.meta.key, event.meta.version, "late").await
    }
}

pub(crate) const NOW: Baseline = Baseline::Now { because: "the story wants it" };

/// A database, and a topic of one partition.
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) home: Home,
    pub(crate) memory: Memory,
}

/// An inbox that runs.
pub(crate) struct Running(CancellationToken, JoinHandle<Result<(), Error>>);

impl Running {
    pub(crate) async fn stop(self) -> Result<(), BoxError> {
        self.0.cancel();
        Ok(self.1.await??)
    }
}

impl Stage {
    pub(crate) async fn new(name: &str) -> Result<Self, BoxError> {
        let world = World::new(name).await?;
        let home = Home::new(world.stack, name, "test.notes").await?;
        Ok(Self { world, home, memory: Memory::new(1) })
    }

    pub(crate) fn put(&self, key: &str, version: i64) {
        self.memory.append(line(key, version, "x").message());
    }

    pub(crate) fn inbox(&self, group: &str) -> Inbox<MemorySource> {
        Inbox::new(self.home.module.clone(), self.memory.source(group))
    }

    /// What a handler did, as `key version`, by keys; one thing twice is there twice.
    pub(crate) async fn done(&self, by: &'static str, wanted: &[&str]) -> Result<(), BoxError> {
        let query = "select key || version from public.effect where text = $1 order by key, version";
        let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
        until(wanted, async || Ok(sqlx::query_scalar(query).bind(by).fetch_all(&self.home.admin).await?))
            .await
    }

    /// Waits until a group is noted to read with so many handlers.
    pub(crate) async fn reads(&self, group: &str, handlers: i64) -> Result<(), BoxError> {
        let query = "select count(*) from outbox.reader where consumer_group = $1 and missed_from is null";
        let count = async || Ok(sqlx::query_scalar(query).bind(group).fetch_one(&self.home.admin).await?);
        until(handlers, count).await
    }

    pub(crate) async fn end(self) -> Result<(), BoxError> {
        self.world.stop().await?;
        self.home.drop_now().await
    }
}

pub(crate) fn run<S: Source>(inbox: Inbox<S>) -> Running {
    let stop = CancellationToken::new();
    Running(stop.clone(), tokio::spawn(inbox.run(stop)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_began_now_keeps_its_beginning_in_any_group_and_company() -> Result<(), BoxError> {
    let stage = Stage::new("beginnings").await?;
    stage.put("a", 1);
    stage.put("b", 1);
    let running = run(stage.inbox("one").register(Late).baseline(NOW));
    stage.reads("one", 1).await?;
    stage.put("a", 2);
    stage.done("late", &["a2"]).await?;
    running.stop().await?;
    // While nobody reads; then the group has another name.
    stage.put("a", 3);
    let running = run(stage.inbox("two").register(Late).baseline(NOW));
    stage.done("late", &["a2", "a3"]).await?;
    running.stop().await?;
    // Beside a handler that begins at the beginning: that one gets all, this one nothing from before its own.
    let running = run(stage.inbox("three").register(Late).register(Early));
    stage.put("b", 2);
    stage.done("early", &["a1", "a2", "a3", "b1", "b2"]).await?;
    stage.done("late", &["a2", "a3", "b2"]).await?;
    running.stop().await?;
    let running = run(stage.inbox("three").register(Early).register(Late));
    stage.put("b", 3);
    stage.done("early", &["a1", "a2", "a3", "b1", "b2", "b3"]).await?;
    stage.done("late", &["a2", "a3", "b2", "b3"]).await?;
    running.stop().await?;
    stage.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_brings_a_handler_nothing_from_before_its_beginning() -> Result<(), BoxError> {
    let stage = Stage::new("replayed").await?;
    let again = |key, version| {
        let mut message = line(key, version, "x").message();
        message.headers.push((outbox::replay::HEADER.into(), "1".into()));
        stage.memory.append(message);
    };
    stage.put("a", 1);
    stage.put("a", 2);
    stage.put("b", 1);
    let running = run(stage.inbox("one").register(Late).baseline(NOW));
    stage.reads("one", 1).await?;
    running.stop().await?;
    // Read at once, as a batch; then one for itself.
    for (key, version) in [("a", 1), ("a", 2), ("b", 1)] {
        again(key, version);
    }
    let inbox = stage.inbox("one").register(Late).baseline(NOW);
    let tally = inbox.tally();
    let running = run(inbox);
    until(3, async || Ok(tally.settled(Late::NAME))).await?;
    again("c", 1);
    until(4, async || Ok(tally.settled(Late::NAME))).await?;
    assert_eq!(texts(&stage.home, "select key || version from public.effect").await?, [""; 0]);
    // The key begins with what is new, and from then on a replay brings what was lost.
    stage.put("a", 3);
    stage.done("late", &["a3"]).await?;
    again("a", 2);
    again("a", 4);
    stage.done("late", &["a3", "a4"]).await?;
    running.stop().await?;
    stage.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_was_left_out_gets_what_its_group_has_read_meanwhile() -> Result<(), BoxError> {
    let stage = Stage::new("leftout").await?;
    let both = || stage.inbox("group").register(Early).register(Late);
    let running = run(both());
    stage.put("a", 1);
    stage.done("early", &["a1"]).await?;
    stage.done("late", &["a1"]).await?;
    running.stop().await?;
    for (version, wanted) in [(2, &["a1", "a2"][..]), (3, &["a1", "a2", "a3"])] {
        let running = run(stage.inbox("group").register(Early));
        stage.put("a", version);
        stage.done("early", wanted).await?;
        running.stop().await?;
    }
    let missed = "select missed_from::text from outbox.reader where handler = 'test.late'";
    assert_eq!(texts(&stage.home, missed).await?, ["{1}"]);
    let running = run(both());
    stage.put("a", 4);
    stage.done("late", &["a1", "a2", "a3", "a4"]).await?;
    stage.done("early", &["a1", "a2", "a3", "a4"]).await?;
    running.stop().await?;
    stage.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_gives_a_handler_again_what_it_missed() -> Result<(), BoxError> {
    let stage = Stage::new("missed").await?;
    let sink = kafka::sink(&stage.world.kafka)?;
    let send = async |version| {
        let Message { payload, headers, .. } = line("a", version, "x").message();
        let headers = headers.into_iter().collect();
        sink.send(Record { topic: NOTES.name().into(), key: "a".into(), payload, headers }).await
    };
    let early = || {
        let source = kafka::source(&stage.world.kafka, "group")?;
        Ok::<_, BoxError>(Inbox::new(stage.home.module.clone(), source).register(Early))
    };
    let running = run(early()?.register(Late));
    send(1).await?;
    stage.done("early", &["a1"]).await?;
    stage.done("late", &["a1"]).await?;
    running.stop().await?;
    let running = run(early()?);
    send(2).await?;
    stage.done("early", &["a1", "a2"]).await?;
    running.stop().await?;
    let running = run(early()?.register(Late));
    stage.done("late", &["a1", "a2"]).await?;
    send(3).await?;
    stage.done("early", &["a1", "a2", "a3"]).await?;
    stage.done("late", &["a1", "a2", "a3"]).await?;
    running.stop().await?;
    stage.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_of_another_group_is_refused_where_the_group_has_read_on() -> Result<(), BoxError> {
    let stage = Stage::new("moved").await?;
    stage.put("a", 1);
    let running = run(stage.inbox("its own").register(Late));
    stage.done("late", &["a1"]).await?;
    running.stop().await?;
    let running = run(stage.inbox("group").register(Early));
    stage.done("early", &["a1"]).await?;
    running.stop().await?;
    let both = stage.inbox("group").register(Early).register(Late).run(CancellationToken::new());
    let ended = tokio::time::timeout(Duration::from_secs(40), both).await?;
    assert!(
        matches!(&ended, Err(Error::Setup(why)) if why.contains("test.late is new in group group")),
        "{ended:?}"
    );
    stage.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_handler_begins_when_the_members_without_it_have_left() -> Result<(), BoxError> {
    let stage = Stage::new("company").await?;
    let old = run(stage.inbox("group").register(Early));
    stage.put("a", 1);
    stage.done("early", &["a1"]).await?;
    let (source, moved) = (stage.memory.source("group"), Arc::new(AtomicBool::new(false)));
    let source = Overtaken { source, notes: None, joins: Arc::new(Semaphore::new(1)), moved: moved.clone() };
    let new = Inbox::new(stage.home.module.clone(), source).register(Early).register(Late).baseline(NOW);
    let new = run(new);
    until(true, async || Ok(moved.load(Ordering::SeqCst))).await?;
    for version in 2..=3 {
        stage.put("a", version);
    }
    stage.done("early", &["a1", "a2", "a3"]).await?;
    stage.reads("group", 1).await?;
    old.stop().await?;
    stage.reads("group", 2).await?;
    let began = "select offsets::text from outbox.baseline where handler = 'test.late'";
    assert_eq!(
        texts(&stage.home, began).await?,
        ["{3}"],
        "what others read without it is before its beginning"
    );
    stage.put("a", 4);
    stage.done("early", &["a1", "a2", "a3", "a4"]).await?;
    stage.done("late", &["a4"]).await?;
    new.stop().await?;
    stage.end().await
}

/// A member that others overtake.
struct Overtaken {
    source: MemorySource,
    /// While it tells the places, another member stores its first position and notes it here.
    notes: Option<PgPool>,
    /// It joins when the story lets it.
    joins: Arc<Semaphore>,
    /// It has joined, or tried to put the group elsewhere.
    moved: Arc<AtomicBool>,
}

#[async_trait]
impl Source for Overtaken {
    fn group(&self) -> &str {
        self.source.group()
    }

    async fn places(&self, topics: &[Topic]) -> Result<Vec<Place>, Error> {
        let places = self.source.places(topics).await?;
        if let Some(notes) = &self.notes {
            let note = "insert into outbox.subscription (consumer_group, topic, partition) values ($1, $2, 0) on conflict do nothing";
            sqlx::query(note).bind(self.group()).bind(NOTES.name()).execute(notes).await?;
        }
        Ok(places)
    }

    async fn bounds(&self, places: &[Place]) -> Result<Vec<(i64, i64)>, Error> {
        self.source.bounds(places).await
    }

    async fn reposition(&self, places: &[Place]) -> Result<(), Error> {
        self.moved.store(true, Ordering::SeqCst);
        self.source.reposition(places).await
    }

    async fn start(&self, topics: &[Topic], places: &[Place]) -> Result<(), Error> {
        let joins = self.joins.acquire().await.map_err(|error| Error::Broker(error.to_string()))?;
        joins.forget();
        self.source.start(topics, places).await?;
        self.moved.store(true, Ordering::SeqCst);
        Ok(())
    }

    async fn recv(&self) -> Result<Message, Error> {
        self.source.recv().await
    }

    fn done(&self, topic: &str, partition: i32, offset: i64) -> Result<(), Error> {
        self.source.done(topic, partition, offset)
    }

    fn hold(&self, held: bool) {
        self.source.hold(held);
    }

    fn assigned(&self) -> Vec<Place> {
        self.source.assigned()
    }

    fn noted(&self) -> Vec<Place> {
        self.source.noted()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_another_member_stores_meanwhile_is_not_lost() -> Result<(), BoxError> {
    let stage = Stage::new("overtaken").await?;
    let (source, notes) = (stage.memory.source("group"), Some(stage.home.admin.clone()));
    let source = Overtaken { source, notes, joins: Arc::new(Semaphore::new(1)), moved: Arc::default() };
    let running = run(Inbox::new(stage.home.module.clone(), source).register(Early));
    stage.put("a", 1);
    stage.done("early", &["a1"]).await?;
    running.stop().await?;
    stage.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_slipped_in_before_an_older_member_joined_is_not_forgotten() -> Result<(), BoxError> {
    let stage = Stage::new("slipped").await?;
    let (joins, moved) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicBool::new(false)));
    let source = stage.memory.source("group");
    let source = Overtaken { source, notes: None, joins: joins.clone(), moved: moved.clone() };
    let old = run(Inbox::new(stage.home.module.clone(), source).register(Early));
    stage.reads("group", 1).await?;
    let both = || stage.inbox("group").register(Early).register(Late);
    let new = run(both());
    stage.reads("group", 2).await?;
    // The older member joins after all, and the partition is its.
    joins.add_permits(1);
    until(true, async || Ok(moved.load(Ordering::SeqCst))).await?;
    stage.put("a", 1);
    stage.done("early", &["a1"]).await?;
    stage.reads("group", 1).await?;
    old.stop().await?;
    new.stop().await?;
    let new = run(both());
    stage.done("late", &["a1"]).await?;
    stage.done("early", &["a1"]).await?;
    new.stop().await?;
    stage.end().await
}
