//! Kafka as a source.

use std::{
    collections::HashMap,
    thread::park_timeout,
    time::{Duration, Instant},
};

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
    member::{Fault, Member},
};
use crate::{Error, Message, Place, Source, Topic};

/// A process that is gone without a word loses its partitions after this time.
const SESSION_TIMEOUT_MS: &str = "10000";

/// How soon a partition that was added to a topic is noticed.
const METADATA_REFRESH_MS: &str = "10000";

/// How long to wait until a coordinator that is not there is asked for again.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Bytes fetched ahead, in KiB.
const FETCH_KIB_MAX: &str = "16384";

/// Kafka as one consumer group sees it. Made by [`source`].
pub struct KafkaSource {
    config: Config,
    group: String,
    consumer: StreamConsumer<Member>,
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
        // Eager: `Member` decides at each assignment where to start, for all partitions at once.
        .set("partition.assignment.strategy", "range,roundrobin")
        .set("topic.metadata.refresh.interval.ms", METADATA_REFRESH_MS)
        .set("session.timeout.ms", SESSION_TIMEOUT_MS)
        .set("queued.max.messages.kbytes", FETCH_KIB_MAX);
    if let Some(instance) = &config.instance_id {
        client.set("group.instance.id", instance);
    }
    let consumer = client.create_with_context(Member::default()).map_err(broker)?;
    Ok(KafkaSource { config: config.clone(), group, consumer })
}

impl KafkaSource {
    fn message(&self, record: &BorrowedMessage<'_>) -> Message {
        let headers = record.headers().into_iter().flat_map(|headers| headers.iter());
        Message {
            topic: self.logical(record.topic()).to_owned(),
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

    fn logical<'a>(&self, topic: &'a str) -> &'a str {
        topic.strip_prefix(&self.config.topic_prefix).unwrap_or(topic)
    }

    fn member(&self) -> &Member {
        self.consumer.context()
    }

    fn lost(&self, topic: &str, partition: i32, reason: impl Into<String>) -> Error {
        let topic = self.logical(topic).to_owned();
        Error::OffsetLost { group: self.group.clone(), topic, partition, reason: reason.into() }
    }

    async fn fault(&self, error: KafkaError) -> Error {
        if let KafkaError::MessageConsumptionFatal(_) = &error {
            return Error::Fenced { group: self.group.clone(), reason: error.to_string() };
        }
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                self.out_of_range(&error).await
            }
            _ => broker(error),
        }
    }

    /// librdkafka does not say which partition it was: looks for the one whose position is outside of the log.
    async fn out_of_range(&self, error: &KafkaError) -> Error {
        let names: Vec<String> = self.member().topics().into_keys().collect();
        let found =
            blocking(&self.config, &self.group, move |consumer| first_out_of_range(consumer, &names)).await;
        match found {
            Ok(Some((topic, partition, reason))) => self.lost(&topic, partition, reason),
            _ => self.lost("a topic", -1, error.to_string()),
        }
    }

    /// What the last assignment came to, when it could not be read.
    fn assigned_badly(&self) -> Option<Error> {
        match self.member().take_fault()? {
            Fault::Lost { topic, partition } => {
                let reason = "the group has read it before, but its committed offset is gone";
                Some(self.lost(&topic, partition, reason))
            }
            Fault::Unknown(error) => {
                // Nothing was assigned: joins again, and asks again.
                let names: Vec<String> = self.member().topics().into_keys().collect();
                self.consumer.unsubscribe();
                let again = self.consumer.subscribe(&names.iter().map(String::as_str).collect::<Vec<_>>());
                Some(broker(again.err().unwrap_or(error)))
            }
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

/// All partitions of `topics`, with the offset that the group has committed in each.
fn committed<'a>(
    consumer: &BaseConsumer,
    topics: impl Iterator<Item = &'a String>,
) -> Result<TopicPartitionList, KafkaError> {
    let mut all = TopicPartitionList::new();
    for name in topics {
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
    let until = Instant::now() + REQUEST_TIMEOUT;
    loop {
        let found = consumer.committed_offsets(all.clone(), REQUEST_TIMEOUT).and_then(answered);
        match found {
            Err(error) if has_no_coordinator(&error) && Instant::now() < until => park_timeout(ASK_AGAIN),
            found => return found,
        }
    }
}

/// Nobody minds a new group's offsets until its coordinator is there; a partition's answer says so, or the whole.
fn answered(found: TopicPartitionList) -> Result<TopicPartitionList, KafkaError> {
    let elements = found.elements();
    let missing = elements.iter().find_map(|element| element.error().err().filter(has_no_coordinator));
    drop(elements);
    missing.map_or(Ok(found), Err)
}

fn has_no_coordinator(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator};
    let code = error.rdkafka_error_code();
    code.is_some_and(|code| {
        [NotCoordinator, CoordinatorLoadInProgress, CoordinatorNotAvailable].contains(&code)
    })
}

/// The partitions of `topics`, and the offset that the group has committed in each.
fn places(consumer: &BaseConsumer, topics: &HashMap<String, Topic>) -> Result<Vec<Place>, KafkaError> {
    let mut places = Vec::new();
    for element in committed(consumer, topics.keys())?.elements() {
        // Not answered is not the same as not there.
        element.error()?;
        if let Some(topic) = topics.get(element.topic()) {
            let position = match element.offset() {
                Offset::Offset(at) => Some(at),
                _ => None,
            };
            places.push(Place { topic: *topic, partition: element.partition(), position });
        }
    }
    Ok(places)
}

/// Commits offsets from outside of the group. The broker refuses it while the group has members.
fn commit_at(consumer: &BaseConsumer, places: &[(String, i32, i64)]) -> Result<(), KafkaError> {
    let mut at = TopicPartitionList::new();
    for (topic, partition, offset) in places {
        at.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
    }
    consumer.commit(&at, CommitMode::Sync)
}

fn first_out_of_range(
    consumer: &BaseConsumer,
    topics: &[String],
) -> Result<Option<(String, i32, String)>, KafkaError> {
    for element in committed(consumer, topics.iter())?.elements() {
        let Offset::Offset(at) = element.offset() else { continue };
        let (low, high) = consumer.fetch_watermarks(element.topic(), element.partition(), REQUEST_TIMEOUT)?;
        if at < low || at > high {
            let reason = format!("the group was at offset {at}, the log has {low} to {high}");
            return Ok(Some((element.topic().to_owned(), element.partition(), reason)));
        }
    }
    Ok(None)
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

    async fn bounds(&self, places: &[Place]) -> Result<Vec<(i64, i64)>, Error> {
        let places: Vec<_> =
            places.iter().map(|place| (self.config.physical(place.topic.name()), place.partition)).collect();
        let ask = move |consumer: &BaseConsumer| {
            let ask = |(topic, partition): &(String, i32)| {
                consumer.fetch_watermarks(topic, *partition, REQUEST_TIMEOUT)
            };
            places.iter().map(ask).collect()
        };
        blocking(&self.config, &self.group, ask).await
    }

    async fn reposition(&self, places: &[Place]) -> Result<(), Error> {
        let places: Vec<_> = places
            .iter()
            .filter_map(|at| Some((self.config.physical(at.topic.name()), at.partition, at.position?)))
            .collect();
        if places.is_empty() {
            return Ok(());
        }
        blocking(&self.config, &self.group, move |consumer| commit_at(consumer, &places)).await
    }

    async fn start(&self, topics: &[Topic], places: &[Place]) -> Result<(), Error> {
        let names: HashMap<String, Topic> =
            topics.iter().map(|topic| (self.config.physical(topic.name()), *topic)).collect();
        let wanted: Vec<&str> = names.keys().map(String::as_str).collect();
        let started = places.iter().filter(|at| at.position.is_some());
        let started = started.map(|at| (self.config.physical(at.topic.name()), at.partition));
        self.member().expect(names.clone(), started.collect());
        self.consumer.subscribe(&wanted).map_err(broker)
    }

    async fn recv(&self) -> Result<Message, Error> {
        loop {
            if let Some(error) = self.assigned_badly() {
                return Err(error);
            }
            tokio::select! {
                () = self.member().faulted() => {}
                record = self.consumer.recv() => return match record {
                    Ok(record) => Ok(self.message(&record)),
                    Err(error) => Err(self.fault(error).await),
                },
            }
        }
    }

    fn done(&self, topic: &str, partition: i32, offset: i64) -> Result<(), Error> {
        match self.consumer.store_offset(&self.config.physical(topic), partition, offset) {
            // The partition went to another member meanwhile; that one reads the record again and finds its cursor.
            Err(KafkaError::StoreOffset(RDKafkaErrorCode::State)) => Ok(()),
            other => other.map_err(broker),
        }
    }

    fn hold(&self, held: bool) {
        self.member().hold(held);
        let done = self.consumer.assignment().and_then(|assigned| {
            if held { self.consumer.pause(&assigned) } else { self.consumer.resume(&assigned) }
        });
        if let Err(error) = done {
            tracing::warn!(%error, group = self.group, held, "the partitions were not paused or resumed");
        }
    }

    fn assigned(&self) -> Vec<Place> {
        self.member().take_assigned()
    }

    fn noted(&self) -> Vec<Place> {
        self.member().take_noted()
    }
}
