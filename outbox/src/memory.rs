//! A broker in memory, for tests: a [`Sink`](crate::Sink) and [`Source`](crate::Source)s over one log.
//!
//! It keeps the promises that the outbox needs of Kafka, and no more:
//! - a topic has a fixed number of partitions; a record's key chooses its partition;
//! - a partition keeps records in the order in which they were sent, for ever;
//! - members of a group share the partitions. When one comes or goes, a partition may change hands, and its new holder reads
//!   on from what was noted as done: the same record may come again;
//! - another group reads everything for itself.
//!
//! Faults come when asked for: [`Memory::refuse`], [`Memory::outage`], [`Memory::redeliver`]. What it does not have: sizes,
//! retention, rights, time. Every topic exists. Nothing survives the last handle.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! use outbox::{Headers, Record, Sink as _, Source as _, Topic, memory};
//! const NOTES: Topic = Topic::new("notes.v1");
//! let (sink, source) = memory::pair();
//! let places = source.places(&[NOTES]).await?;
//! source.start(&[NOTES], &places).await?;
//! let record = |key: &str| Record {
//!     topic: NOTES.name().into(),
//!     key: key.into(),
//!     payload: b"hello".to_vec(),
//!     headers: Headers::default(),
//! };
//! sink.send(record("a")).await?;
//! assert_eq!(source.recv().await?.key.as_deref(), Some(&b"a"[..]));
//! # Ok::<_, outbox::BoxError>(()) })?;
//! # Ok::<_, outbox::BoxError>(())
//! ```

mod group;
mod sink;
mod source;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use self::group::Group;
pub use self::{sink::MemorySink, source::MemorySource};
use crate::{Message, Record};

/// Partitions of each topic of [`pair`].
const PARTITIONS: i32 = 3;

/// A sink, and a source that reads what is sent there, in group `test`. [`MemorySink::memory`] leads to the faults.
pub fn pair() -> (MemorySink, MemorySource) {
    let memory = Memory::new(PARTITIONS);
    (memory.sink(), memory.source("test"))
}

/// A handle on a broker in memory; clones are handles on the same one.
#[derive(Clone)]
pub struct Memory(Arc<Shared>);

/// What is wrong with the broker, as its sink sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Outage {
    /// Nothing.
    #[default]
    None,
    /// It can't be reached: nothing is stored, and the sink says so.
    Down,
    /// It stores what it gets, but its reports are lost: the sink can't tell this from [`Outage::Down`]. A relay that sends
    /// again makes repeats.
    ReportsLost,
}

type Rule = Box<dyn Fn(&Record) -> bool + Send + Sync>;

struct Shared {
    partitions: i32,
    state: Mutex<State>,
    /// Rung when a record came, or partitions changed hands.
    changed: Notify,
}

#[derive(Default)]
struct State {
    logs: BTreeMap<String, Vec<Vec<Message>>>,
    groups: HashMap<String, Group>,
    refuse: Option<Rule>,
    outage: Outage,
    members: u64,
}

impl Memory {
    /// A broker whose topics have `partitions` each; at least 1.
    pub fn new(partitions: i32) -> Self {
        let partitions = partitions.max(1);
        Self(Arc::new(Shared { partitions, state: Mutex::default(), changed: Notify::new() }))
    }

    /// A sink, for a [`Relay`](crate::Relay).
    pub fn sink(&self) -> MemorySink {
        MemorySink(self.clone())
    }

    /// A new member of a group, for an [`Inbox`](crate::Inbox). It leaves when dropped.
    pub fn source(&self, group: &str) -> MemorySource {
        MemorySource::new(self.clone(), group)
    }

    /// All records of a topic: partition after partition, each in its order.
    pub fn records(&self, topic: &str) -> Vec<Message> {
        self.state().logs.get(topic).into_iter().flatten().flatten().cloned().collect()
    }

    /// Appends a record as it is, whatever its key and headers, as a foreign producer might. Its offset is set here; a
    /// partition that the topic does not have becomes the last.
    pub fn append(&self, message: Message) {
        let partition = message.partition.clamp(0, self.0.partitions - 1);
        let mut state = self.state();
        let log = state.log(&message.topic, self.0.partitions);
        if let Some(log) = usize::try_from(partition).ok().and_then(|n| log.get_mut(n)) {
            let offset = i64::try_from(log.len()).unwrap_or(i64::MAX);
            log.push(Message { partition, offset, ..message });
        }
        drop(state);
        self.0.changed.notify_waiters();
    }

    /// From now on refuses the records that `which` picks, as a broker refuses one that is too large; replaces an earlier
    /// rule. `|_| false` refuses none.
    pub fn refuse(&self, which: impl Fn(&Record) -> bool + Send + Sync + 'static) {
        self.state().refuse = Some(Box::new(which));
    }

    /// Begins or ends an outage.
    pub fn outage(&self, outage: Outage) {
        self.state().outage = outage;
    }

    /// Has a group read everything again, from the beginning: what at-least-once allows at any time.
    pub fn redeliver(&self, group: &str) {
        if let Some(group) = self.state().groups.get_mut(group) {
            group.rewind();
        }
        self.0.changed.notify_waiters();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The partition of a key, by FNV-1a.
    fn partition(&self, key: &str) -> i32 {
        let hash = key
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        i32::try_from(hash % self.0.partitions.unsigned_abs()).unwrap_or(0)
    }
}

impl State {
    fn log(&mut self, topic: &str, partitions: i32) -> &mut Vec<Vec<Message>> {
        let partitions = usize::try_from(partitions).unwrap_or(1);
        self.logs.entry(topic.to_owned()).or_insert_with(|| vec![Vec::new(); partitions])
    }

    /// The offset that a partition's next record gets.
    fn end(&self, topic: &str, partition: i32) -> i64 {
        let log = self.logs.get(topic).zip(usize::try_from(partition).ok());
        let records = log.and_then(|(log, n)| log.get(n)).map_or(0, Vec::len);
        i64::try_from(records).unwrap_or(i64::MAX)
    }

    /// The record at a place, if it has come yet.
    fn at(&self, topic: &str, partition: i32, offset: i64) -> Option<&Message> {
        let log = self.logs.get(topic)?.get(usize::try_from(partition).ok()?)?;
        log.get(usize::try_from(offset).ok()?)
    }
}
