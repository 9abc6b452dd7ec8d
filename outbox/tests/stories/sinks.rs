//! The suite for sinks: Kafka and memory pass it, and each kind of broken sink fails the rule it breaks.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use outbox::{
    BoxError, Error, Headers, Message, Record, Refusal, Sink, Source as _, Topic, kafka,
    memory::{Memory, MemorySink, Outage},
    testing::sinks::{self, Broker, Rule},
};

use crate::world::{NOTES, World};

/// Marks a record that a broker refuses.
const BAD: &str = "bad";

struct InMemory(Memory);

impl Broker for InMemory {
    async fn read(&self, topic: Topic, _: usize) -> Result<Vec<Message>, BoxError> {
        Ok(self.0.records(topic.name()))
    }

    fn refused(&self, topic: Topic) -> Option<Record> {
        let (topic, payload) = (topic.name().to_owned(), vec![0]);
        Some(Record { topic, key: BAD.into(), payload, headers: Headers::default() })
    }

    async fn outage(&self, down: bool) -> bool {
        self.0.outage(if down { Outage::Down } else { Outage::None });
        true
    }
}

fn broker() -> InMemory {
    let memory = Memory::new(3);
    memory.refuse(|record| record.key == BAD);
    InMemory(memory)
}

#[tokio::test]
async fn memory_keeps_all_rules() -> Result<(), BoxError> {
    let broker = broker();
    let report = sinks::try_all(&broker.0.sink(), &broker, NOTES).await?;
    report.assert();
    assert!(report.untried.is_empty(), "{report}");
    Ok(())
}

/// Kafka can't be taken down from here; the stories of outages do that elsewhere.
struct Cluster(kafka::Config);

impl Broker for Cluster {
    async fn read(&self, topic: Topic, count: usize) -> Result<Vec<Message>, BoxError> {
        let source = kafka::source(&self.0, "suite")?;
        let places = source.places(&[topic]).await?;
        source.start(&[topic], &places).await?;
        let mut all = Vec::new();
        // The group needs a moment to form; after the last one that is due, a second for what is not.
        loop {
            let patience = Duration::from_secs(if all.len() < count { 30 } else { 1 });
            match tokio::time::timeout(patience, source.recv()).await {
                Ok(message) => all.push(message?),
                Err(_) => return Ok(all),
            }
        }
    }

    fn refused(&self, topic: Topic) -> Option<Record> {
        let (topic, payload) = (topic.name().to_owned(), vec![0; 2 << 20]);
        Some(Record { topic, key: BAD.into(), payload, headers: Headers::default() })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_keeps_all_rules() -> Result<(), BoxError> {
    let world = World::new("suite").await?;
    let report = sinks::try_all(&kafka::sink(&world.kafka)?, &Cluster(world.kafka.clone()), NOTES).await?;
    report.assert();
    assert_eq!(report.untried, [Rule::Outage]);
    world.stop().await
}

/// What is wrong with a sink.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Flaw {
    LosesSome,
    ChangesBytes,
    DropsHeaders,
    SpreadsKeys,
    Reorders,
    Small,
    SwallowsRefusals,
    CallsRefusalsOutages,
    KeepsWhatItRefuses,
    SwallowsOutages,
    BlamesTheRecord,
    NeverLooks,
}

struct Flawed {
    flaw: Flaw,
    sink: MemorySink,
    sent: AtomicUsize,
    held: Mutex<Option<Record>>,
}

impl Flawed {
    /// Appends to a partition of its own choice.
    fn append(&self, record: Record, partition: usize) {
        let headers = record.headers.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        self.sink.memory().append(Message {
            topic: record.topic,
            partition: i32::try_from(partition % 3).unwrap_or(0),
            offset: 0,
            key: Some(record.key.into_bytes()),
            payload: record.payload,
            headers,
        });
    }
}

#[async_trait]
impl Sink for Flawed {
    async fn send(&self, mut record: Record) -> Result<(), Refusal> {
        let n = self.sent.fetch_add(1, Ordering::SeqCst);
        match self.flaw {
            Flaw::LosesSome if n.is_multiple_of(7) => return Ok(()),
            Flaw::ChangesBytes => record.payload.retain(|byte| *byte != 0),
            Flaw::DropsHeaders => {
                let kept = record.headers.iter().filter(|(name, _)| *name != "tenant");
                record.headers = kept.map(|(name, value)| (name.into(), value.into())).collect();
            }
            Flaw::SpreadsKeys if record.key != BAD => {
                self.append(record, n);
                return Ok(());
            }
            Flaw::Reorders if record.key.starts_with("turn/3") => {
                // Says that it is delivered, and sends it behind the next one.
                let Ok(mut held) = self.held.lock() else { return Ok(()) };
                if let Some(before) = held.take() {
                    self.append(record, 0);
                    self.append(before, 0);
                } else if n < 30 {
                    *held = Some(record);
                } else {
                    self.append(record, 0);
                }
                return Ok(());
            }
            Flaw::Small if record.payload.len() > 100_000 => {
                return Err(Refusal::Record("too large".into()));
            }
            Flaw::KeepsWhatItRefuses if record.key == BAD => {
                self.append(record, 0);
                return Err(Refusal::Record("refused, and kept".into()));
            }
            _ => {}
        }
        match (self.flaw, self.sink.send(record).await) {
            (Flaw::SwallowsRefusals, Err(Refusal::Record(_)))
            | (Flaw::SwallowsOutages, Err(Refusal::Outage(_))) => Ok(()),
            (Flaw::CallsRefusalsOutages, Err(Refusal::Record(why))) => Err(Refusal::Outage(why)),
            (Flaw::BlamesTheRecord, Err(Refusal::Outage(why))) => Err(Refusal::Record(why)),
            (_, result) => result,
        }
    }

    async fn check(&self) -> Result<(), Error> {
        if self.flaw == Flaw::NeverLooks { Ok(()) } else { self.sink.check().await }
    }
}

#[tokio::test]
async fn each_kind_of_broken_sink_fails_its_rule() -> Result<(), BoxError> {
    for (flaw, rule) in [
        (Flaw::LosesSome, Rule::Delivered),
        (Flaw::ChangesBytes, Rule::Delivered),
        (Flaw::DropsHeaders, Rule::Headers),
        (Flaw::SpreadsKeys, Rule::OnePartition),
        (Flaw::Reorders, Rule::Order),
        (Flaw::Small, Rule::Limits),
        (Flaw::SwallowsRefusals, Rule::Refusal),
        (Flaw::CallsRefusalsOutages, Rule::Refusal),
        (Flaw::KeepsWhatItRefuses, Rule::Refusal),
        (Flaw::SwallowsOutages, Rule::Outage),
        (Flaw::BlamesTheRecord, Rule::Outage),
        (Flaw::NeverLooks, Rule::Check),
    ] {
        let broker = broker();
        let (sent, held) = (AtomicUsize::new(0), Mutex::new(None));
        let report =
            sinks::try_all(&Flawed { flaw, sink: broker.0.sink(), sent, held }, &broker, NOTES).await?;
        assert!(report.rules().contains(&rule), "{flaw:?}: {report}");
        let others = report.rules().len() - 1;
        // A sink that spreads keys or loses records breaks rules that follow from these too.
        assert!(others == 0 || [Flaw::LosesSome, Flaw::SpreadsKeys].contains(&flaw), "{flaw:?}: {report}");
    }
    Ok(())
}

/// Hangs on one record.
struct Hanging(MemorySink);

#[async_trait]
impl Sink for Hanging {
    async fn send(&self, record: Record) -> Result<(), Refusal> {
        if record.key == "once-17" {
            std::future::pending::<()>().await;
        }
        self.0.send(record).await
    }

    async fn check(&self) -> Result<(), Error> {
        self.0.check().await
    }
}

/// In memory no send takes long.
struct Impatient(InMemory);

impl Broker for Impatient {
    async fn read(&self, topic: Topic, count: usize) -> Result<Vec<Message>, BoxError> {
        self.0.read(topic, count).await
    }

    fn send_timeout(&self) -> Duration {
        Duration::from_secs(1)
    }
}

#[tokio::test]
async fn a_sink_that_hangs_is_found() -> Result<(), BoxError> {
    let broker = Impatient(broker());
    let report = sinks::try_all(&Hanging(broker.0.0.sink()), &broker, NOTES).await?;
    assert_eq!(report.rules(), [Rule::Bounded], "{report}");
    Ok(())
}
