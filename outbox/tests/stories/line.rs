//! A log for stories in which records are lost, doubled or forged: the story says what the broker holds.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use outbox::{
    BoxError, Error, Event, Handler, Headers, Inbox, InboxOptions, MemoryRefill, Message, Place, Received,
    Refill, RefillOptions, Source, Tally, Topic, dead_letter,
};
use sqlx::postgres::PgTransaction;
use tokio::sync::{Mutex, mpsc};
use uuid::Uuid;

use crate::world::{Home, NOTES, Noted, World, effect, noted, until};

/// The broker's end: what is put here is read, in this order.
pub(crate) struct Line {
    into: mpsc::UnboundedSender<Message>,
    offset: AtomicI64,
}

/// The consumer's end.
pub(crate) struct LineSource {
    from: Mutex<mpsc::UnboundedReceiver<Message>>,
}

impl Line {
    pub(crate) fn new() -> (Self, LineSource) {
        let (into, from) = mpsc::unbounded_channel();
        (Self { into, offset: AtomicI64::new(0) }, LineSource { from: Mutex::new(from) })
    }

    /// The record that was put at `offset` is read again, as after a rebalance.
    pub(crate) fn again(&self, message: &Message, offset: i64) {
        let _ = self.into.send(Message { offset, ..message.clone() });
    }

    /// Each time a record of its own, as if a relay had repeated it.
    pub(crate) fn put(&self, message: &Message) {
        let offset = self.offset.fetch_add(1, Ordering::SeqCst);
        let _ = self.into.send(Message { offset, ..message.clone() });
    }
}

#[async_trait]
impl Source for LineSource {
    fn group(&self) -> &'static str {
        "line"
    }

    async fn places(&self, _: &[Topic]) -> Result<Vec<Place>, Error> {
        Ok(vec![Place { topic: NOTES, partition: 0, position: None }])
    }

    async fn start(&self, _: &[Topic], _: &[Place]) -> Result<(), Error> {
        Ok(())
    }

    async fn recv(&self) -> Result<Message, Error> {
        match self.from.lock().await.recv().await {
            Some(message) => Ok(message),
            None => std::future::pending().await,
        }
    }

    async fn bounds(&self, places: &[Place]) -> Result<Vec<(i64, i64)>, Error> {
        Ok(places.iter().map(|_| (0, 0)).collect())
    }

    async fn reposition(&self, _: &[Place]) -> Result<(), Error> {
        Ok(())
    }

    /// No story on a line fills its inbox.
    fn hold(&self, _: bool) {}

    fn done(&self, _: &str, _: i32, _: i64) -> Result<(), Error> {
        Ok(())
    }

    fn assigned(&self) -> Vec<Place> {
        Vec::new()
    }

    fn noted(&self) -> Vec<Place> {
        Vec::new()
    }
}

/// An event's record, as a relay would have sent it.
pub(crate) fn record(event: &Noted, version: i64, id: Uuid) -> Message {
    let mut headers = Headers::default();
    event.headers(&mut headers);
    headers
        .set("ce_id", id.to_string())
        .set("ce_type", Noted::KIND)
        .set("ce_time", "2026-01-02T03:04:05Z")
        .set("banyan-version", version.to_string())
        .set("banyan-origin", "test.elsewhere");
    Message {
        topic: NOTES.name().to_owned(),
        partition: 0,
        offset: 0,
        key: Some(event.key.clone().into_bytes()),
        payload: format!(r#"{{"key":"{}","text":"{}"}}"#, event.key, event.text).into_bytes(),
        headers: headers.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
    }
}

/// Texts in the inbox's tables, one column a row.
pub(crate) async fn texts(home: &Home, query: &'static str) -> Result<Vec<String>, BoxError> {
    Ok(sqlx::query_scalar(query).fetch_all(&home.admin).await?)
}

/// Writes each note down; refuses texts that start with `!` while `strict`.
#[derive(Clone)]
pub(crate) struct Judge {
    pub(crate) strict: Arc<AtomicBool>,
}

impl Handler for Judge {
    const NAME: &'static str = "test.judge";
    type Event = Noted;

    async fn handle(&self, tx: &mut PgTransaction<'_>, event: Received<Noted>) -> Result<(), BoxError> {
        effect(tx, &event.event.key, event.meta.version, &event.event.text).await?;
        if event.event.text.starts_with('!') && self.strict.load(Ordering::SeqCst) {
            return Err(format!("note {} of '{}' shouts", event.meta.version, event.event.key).into());
        }
        Ok(())
    }
}

/// An inbox with a [`Judge`] that reads a [`Line`], and what the line has carried.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) home: Home,
    pub(crate) line: Line,
    pub(crate) log: MemoryRefill,
    pub(crate) judge: Judge,
    pub(crate) tally: Tally,
    source: Option<LineSource>,
}

impl Scene {
    pub(crate) async fn new(name: &str) -> Result<Self, BoxError> {
        let world = World::new(name).await?;
        let home = Home::new(world.stack, name, "test.notes").await?;
        let (line, source) = Line::new();
        let judge = Judge { strict: Arc::new(AtomicBool::new(true)) };
        Ok(Self {
            world,
            home,
            line,
            log: MemoryRefill::default(),
            judge,
            tally: Tally::default(),
            source: Some(source),
        })
    }

    /// Starts the inbox. Refused events are tried twice.
    pub(crate) fn start(&mut self, refill: Option<Arc<dyn Refill>>, bounds: RefillOptions) {
        let source = self.source.take().expect("a scene starts once");
        let mut inbox = Inbox::new(self.home.module.clone(), source).register(self.judge.clone());
        if let Some(refill) = refill {
            inbox = inbox.refill(refill);
        }
        let inbox = inbox.with(InboxOptions {
            attempts_max: 2,
            parked_max: 12,
            sweep_every: Duration::from_millis(20),
            retry_delay_min: Duration::from_millis(20),
            retry_delay_max: Duration::from_millis(100),
            refill: bounds,
            ..InboxOptions::default()
        });
        self.tally = inbox.tally();
        self.world.spawn(|shutdown| inbox.run(shutdown));
    }

    pub(crate) fn mend(&self) {
        self.judge.strict.store(false, Ordering::SeqCst);
    }

    /// Makes an event, which the log keeps; the story decides whether the line carries it.
    pub(crate) fn make(&self, key: &str, version: i64, text: &str) -> Message {
        let message = record(&noted(key, text), version, Uuid::now_v7());
        self.log.add(message.clone());
        message
    }

    /// Makes an event that the line carries.
    pub(crate) fn send(&self, key: &str, version: i64, text: &str) -> Message {
        let message = self.make(key, version, text);
        self.line.put(&message);
        message
    }

    /// Waits for `wanted` in the order of keys and versions; nothing else has been done then.
    pub(crate) async fn effects(&self, wanted: &[&str]) -> Result<(), BoxError> {
        let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
        let query = "select key || ':' || version || ':' || text from public.effect order by key, version, n";
        until(wanted, || texts(&self.home, query)).await
    }

    pub(crate) async fn dead(&self, count: i64) -> Result<(), BoxError> {
        until(count, async || Ok(dead_letter::counts(&self.home.admin).await?.dead)).await
    }

    /// Waits until nothing waits any more, and no cursor says so.
    pub(crate) async fn at_rest(&self) -> Result<(), BoxError> {
        let query = "select 'parked ' || key || version from outbox.parked
            union all select 'dead ' || key || version from outbox.dead_letter
            union all select 'overflow ' || key || version from outbox.overflow
            union all select 'waiting ' || key || waiting from outbox.cursor where waiting <> 0
            union all select 'conflict ' || key || version from outbox.conflict";
        until(Vec::<String>::new(), || texts(&self.home, query)).await
    }

    /// Waits until the verdicts on `records` distinct records, and what waits, sum up to them.
    pub(crate) async fn sum(&self, records: i64) -> Result<(), BoxError> {
        let waiting =
            "select (select count(*) from outbox.parked) + (select count(*) from outbox.dead_letter)
            + (select coalesce(sum(events), 0) from outbox.overflow)::bigint";
        until(records, async || {
            let waiting: i64 = sqlx::query_scalar(waiting).fetch_one(&self.home.admin).await?;
            Ok(waiting + i64::try_from(self.tally.settled(Judge::NAME))?)
        })
        .await
    }

    pub(crate) async fn end(self) -> Result<(), BoxError> {
        self.world.stop().await?;
        self.home.drop_now().await
    }
}
