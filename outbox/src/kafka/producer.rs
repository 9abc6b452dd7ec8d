//! Kafka as a sink.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord, Producer as _},
};

use super::{
    Config,
    client::{REQUEST_TIMEOUT, broker},
    murmur2::partition,
};
use crate::{Error, Record, Refusal, Sink};

/// How long librdkafka tries to deliver one record; above its own request timeouts and retries.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a record may wait for room in librdkafka's queue.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes that may wait in librdkafka's queue, in KiB.
const QUEUE_KIB_MAX: &str = "65536";

/// Kafka as a sink. Made by [`sink`].
pub struct KafkaSink {
    config: Config,
    /// Does not linger: a relay brings several records at once, and while five requests are under way more gather behind them.
    batches: Slot,
    /// For records that were refused before: each is a batch of its own. Made when it is needed first.
    alone: Slot,
    /// Partitions of each logical topic, as last seen.
    partitions: RwLock<HashMap<String, usize>>,
}

/// A producer that can be replaced.
#[derive(Default)]
struct Slot {
    producer: Mutex<Option<Arc<FutureProducer>>>,
    /// Settings beside the common ones.
    settings: &'static [(&'static str, &'static str)],
}

/// A sink over an idempotent producer with `acks=all`. Keys go to partitions as Java's producers send them
/// (`murmur2_random`).
///
/// # Errors
/// [`Error::Broker`] for settings that librdkafka refuses. The cluster need not be up.
pub fn sink(config: &Config) -> Result<KafkaSink, Error> {
    let sink = KafkaSink {
        config: config.clone(),
        batches: Slot { producer: Mutex::default(), settings: &[("linger.ms", "0")] },
        alone: Slot {
            producer: Mutex::default(),
            settings: &[("linger.ms", "0"), ("batch.num.messages", "1")],
        },
        partitions: RwLock::default(),
    };
    sink.batches.current(config)?;
    Ok(sink)
}

impl Slot {
    fn current(&self, config: &Config) -> Result<Arc<FutureProducer>, Error> {
        let mut current = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(producer) = &*current {
            return Ok(producer.clone());
        }
        let producer = Arc::new(self.build(config)?);
        *current = Some(producer.clone());
        Ok(producer)
    }

    fn build(&self, config: &Config) -> Result<FutureProducer, Error> {
        let mut client = config.client();
        client
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("partitioner", "murmur2_random")
            .set("message.timeout.ms", MESSAGE_TIMEOUT.as_millis().to_string())
            .set("queue.buffering.max.kbytes", QUEUE_KIB_MAX);
        for (name, value) in self.settings {
            client.set(*name, *value);
        }
        client.create().map_err(broker)
    }

    /// A producer with a fatal error never sends again: another takes its place, once.
    fn drop_if_fatal(&self, used: &Arc<FutureProducer>) {
        let Some((code, reason)) = used.client().fatal_error() else { return };
        let mut current = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, used)) {
            tracing::warn!(%code, reason, "the producer failed for good; the next record gets a new one");
            *current = None;
        }
    }
}

impl KafkaSink {
    async fn send_by(&self, slot: &Slot, record: Record) -> Result<(), Refusal> {
        let topic = self.config.physical(&record.topic);
        let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(value) })
        });
        let producer = slot.current(&self.config).map_err(|error| Refusal::Outage(error.to_string()))?;
        let sending = FutureRecord::to(&topic).key(&record.key).payload(&record.payload).headers(headers);
        match producer.send(sending, QUEUE_TIMEOUT).await {
            Ok(_) => Ok(()),
            Err((error, _)) => {
                slot.drop_if_fatal(&producer);
                Err(refusal(&error))
            }
        }
    }
}

#[async_trait]
impl Sink for KafkaSink {
    async fn send(&self, record: Record) -> Result<(), Refusal> {
        self.send_by(&self.batches, record).await
    }

    async fn send_alone(&self, record: Record) -> Result<(), Refusal> {
        self.send_by(&self.alone, record).await
    }

    /// The partition. Of a topic that was not looked after yet: the topic.
    fn lane(&self, topic: &str, key: &str) -> u64 {
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        let mut lane = DefaultHasher::new();
        topic.hash(&mut lane);
        partitions.get(topic).map(|count| partition(key.as_bytes(), *count)).hash(&mut lane);
        lane.finish()
    }

    async fn check(&self) -> Result<(), Error> {
        let producer = self.batches.current(&self.config)?;
        let asked = tokio::task::spawn_blocking(move || {
            producer.client().fetch_metadata(None, REQUEST_TIMEOUT).map(drop).map_err(broker)
        });
        asked.await.map_err(broker)?
    }

    async fn missing(&self, topics: &[String]) -> Result<Vec<(String, String)>, Error> {
        let producer = self.batches.current(&self.config)?;
        let names: Vec<(String, String)> =
            topics.iter().map(|topic| (topic.clone(), self.config.physical(topic))).collect();
        let look =
            move || names.into_iter().map(|(topic, name)| Ok((topic, look_at(&producer, &name)?))).collect();
        let found: Result<Vec<(String, Found)>, Error> =
            tokio::task::spawn_blocking(look).await.map_err(broker)?;
        let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
        let mut missing = Vec::new();
        for (topic, found) in found? {
            if found.partitions > 0 {
                partitions.insert(topic.clone(), found.partitions);
            }
            missing.extend(found.fault.map(|fault| (topic, fault)));
        }
        Ok(missing)
    }
}

/// What the cluster says of a topic.
struct Found {
    partitions: usize,
    fault: Option<String>,
}

fn look_at(producer: &FutureProducer, name: &str) -> Result<Found, Error> {
    let metadata = producer.client().fetch_metadata(Some(name), REQUEST_TIMEOUT).map_err(broker)?;
    let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == name) else {
        return Ok(Found { partitions: 0, fault: Some(format!("{name} does not exist")) });
    };
    if let Some(error) = topic.error() {
        let code = RDKafkaErrorCode::from(error);
        return Ok(Found { partitions: 0, fault: Some(format!("{name}: {code}")) });
    }
    let leaderless: Vec<String> = topic
        .partitions()
        .iter()
        .filter(|partition| partition.leader() < 0)
        .map(|partition| partition.id().to_string())
        .collect();
    let fault = if topic.partitions().is_empty() {
        Some(format!("{name} has no partitions"))
    } else if leaderless.is_empty() {
        None
    } else {
        Some(format!("partitions {} of {name} have no leader", leaderless.join(", ")))
    };
    Ok(Found { partitions: topic.partitions().len(), fault })
}

/// What the broker says of the record itself is final; what it says of the topic is for whoever looks after that; all else is an
/// outage.
fn refusal(error: &KafkaError) -> Refusal {
    use RDKafkaErrorCode as Code;
    match error.rdkafka_error_code() {
        Some(
            Code::MessageSizeTooLarge
            | Code::MessageBatchTooLarge
            | Code::InvalidMessageSize
            | Code::InvalidRecord
            | Code::PolicyViolation,
        ) => Refusal::Record(error.to_string()),
        Some(
            Code::InvalidTopic
            | Code::TopicAuthorizationFailed
            | Code::UnknownTopic
            | Code::UnknownTopicOrPartition
            | Code::UnknownPartition,
        ) => Refusal::Topic(error.to_string()),
        _ => Refusal::Outage(error.to_string()),
    }
}
