//! Kafka as a source.

use std::collections::HashMap;

use async_trait::async_trait;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer as _, StreamConsumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::{BorrowedMessage, Headers as _, Message as _},
};

use super::{
    Config,
    client::{REQUEST_TIMEOUT, broker},
};
use crate::{Error, Message, Place, Source, Topic};

/// A process that is gone without a word loses its partitions after this time.
const SESSION_TIMEOUT_MS: &str = "10000";

/// Bytes fetched ahead, in KiB.
const FETCH_KIB_MAX: &str = "16384";

/// Kafka as one consumer group sees it. Made by [`source`].
pub struct KafkaSource {
    config: Config,
    group: String,
    consumer: StreamConsumer,
}

/// A source for group `group`, which gets the topic prefix too. Offsets are committed only for records that were dealt
/// with, once a second; they are a hint, the cursors in the database decide.
///
/// # Errors
/// [`Error::Broker`] for settings that librdkafka refuses. The cluster need not be up.
pub fn source(config: &Config, group: &str) -> Result<KafkaSource, Error> {
    let group = config.physical(group);
    let mut client = config.client();
    client
        .set("group.id", &group)
        .set("enable.auto.commit", "true")
        .set("auto.commit.interval.ms", "1000")
        .set("enable.auto.offset.store", "false")
        // A position that is gone is an error: starting elsewhere would skip events or hide that they are lost.
        .set("auto.offset.reset", "error")
        .set("session.timeout.ms", SESSION_TIMEOUT_MS)
        .set("queued.max.messages.kbytes", FETCH_KIB_MAX);
    if let Some(instance) = &config.instance_id {
        client.set("group.instance.id", instance);
    }
    let consumer = client.create().map_err(broker)?;
    Ok(KafkaSource { config: config.clone(), group, consumer })
}

impl KafkaSource {
    fn message(&self, record: &BorrowedMessage<'_>) -> Message {
        let topic = record.topic();
        let headers = record.headers().into_iter().flat_map(|headers| headers.iter());
        Message {
            topic: topic.strip_prefix(&self.config.topic_prefix).unwrap_or(topic).to_owned(),
            partition: record.partition(),
            offset: record.offset(),
            key: record.key().map(<[u8]>::to_vec),
            payload: record.payload().unwrap_or_default().to_vec(),
            headers: headers
                .map(|h| {
                    (h.key.to_owned(), String::from_utf8_lossy(h.value.unwrap_or_default()).into_owned())
                })
                .collect(),
        }
    }

    fn fault(&self, error: KafkaError) -> Error {
        if let KafkaError::MessageConsumptionFatal(_) = &error {
            return Error::Fenced { group: self.group.clone(), reason: error.to_string() };
        }
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                Error::OffsetLost {
                    group: self.group.clone(),
                    topic: "a topic".into(),
                    partition: -1,
                    reason: error.to_string(),
                }
            }
            _ => broker(error),
        }
    }
}

/// Runs blocking calls of librdkafka on a consumer that joins no group. Each call has a bound.
async fn blocking<T: Send + 'static>(
    config: &Config,
    group: &str,
    work: impl FnOnce(&BaseConsumer) -> Result<T, KafkaError> + Send + 'static,
) -> Result<T, Error> {
    let consumer: BaseConsumer =
        config.client().set("group.id", group).set("enable.auto.commit", "false").create().map_err(broker)?;
    tokio::task::spawn_blocking(move || work(&consumer)).await.map_err(broker)?.map_err(broker)
}

/// The partitions of `topics`, and whether the group has committed an offset in each.
fn places(consumer: &BaseConsumer, topics: &HashMap<String, Topic>) -> Result<Vec<Place>, KafkaError> {
    let mut all = TopicPartitionList::new();
    for name in topics.keys() {
        let metadata = consumer.fetch_metadata(Some(name), REQUEST_TIMEOUT)?;
        for topic in metadata.topics() {
            if topic.partitions().is_empty() {
                return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopic));
            }
            for partition in topic.partitions() {
                all.add_partition(topic.name(), partition.id());
            }
        }
    }
    let mut places = Vec::new();
    for element in consumer.committed_offsets(all, REQUEST_TIMEOUT)?.elements() {
        // Not answered is not the same as not there.
        element.error()?;
        if let Some(topic) = topics.get(element.topic()) {
            let positioned = element.offset() != Offset::Invalid;
            places.push(Place { topic: *topic, partition: element.partition(), positioned });
        }
    }
    Ok(places)
}

/// Commits the beginning of the log for a group that has no position there.
fn commit_first(consumer: &BaseConsumer, fresh: &[(String, i32)]) -> Result<(), KafkaError> {
    let mut first = TopicPartitionList::new();
    for (topic, partition) in fresh {
        let (low, _) = consumer.fetch_watermarks(topic, *partition, REQUEST_TIMEOUT)?;
        first.add_partition_offset(topic, *partition, Offset::Offset(low))?;
    }
    consumer.commit(&first, CommitMode::Sync)
}

#[async_trait]
impl Source for KafkaSource {
    fn group(&self) -> &str {
        &self.group
    }

    async fn places(&self, topics: &[Topic]) -> Result<Vec<Place>, Error> {
        let names: HashMap<_, _> =
            topics.iter().map(|topic| (self.config.physical(topic.name()), *topic)).collect();
        blocking(&self.config, &self.group, move |consumer| places(consumer, &names)).await
    }

    async fn start(&self, topics: &[Topic], places: &[Place]) -> Result<(), Error> {
        let fresh = places.iter().filter(|place| !place.positioned);
        let fresh: Vec<_> =
            fresh.map(|place| (self.config.physical(place.topic.name()), place.partition)).collect();
        if !fresh.is_empty() {
            blocking(&self.config, &self.group, move |consumer| commit_first(consumer, &fresh)).await?;
        }
        let names: Vec<String> = topics.iter().map(|topic| self.config.physical(topic.name())).collect();
        self.consumer.subscribe(&names.iter().map(String::as_str).collect::<Vec<_>>()).map_err(broker)
    }

    async fn recv(&self) -> Result<Message, Error> {
        match self.consumer.recv().await {
            Ok(record) => Ok(self.message(&record)),
            Err(error) => Err(self.fault(error)),
        }
    }

    fn done(&self, message: &Message) -> Result<(), Error> {
        let topic = self.config.physical(&message.topic);
        match self.consumer.store_offset(&topic, message.partition, message.offset) {
            // The partition went to another member meanwhile; that one reads the record again and finds its cursor.
            Err(KafkaError::StoreOffset(RDKafkaErrorCode::State)) => Ok(()),
            other => other.map_err(broker),
        }
    }
}
