//! Kafka as a sink.

use std::{
    sync::{Arc, Mutex, PoisonError},
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
    producer: Mutex<Arc<FutureProducer>>,
}

/// A sink over an idempotent producer with `acks=all`. Keys go to partitions as Java's producers send them
/// (`murmur2_random`).
///
/// # Errors
/// [`Error::Broker`] for settings that librdkafka refuses. The cluster need not be up.
pub fn sink(config: &Config) -> Result<KafkaSink, Error> {
    let producer = Mutex::new(Arc::new(producer(config)?));
    Ok(KafkaSink { config: config.clone(), producer })
}

fn producer(config: &Config) -> Result<FutureProducer, Error> {
    config
        .client()
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("partitioner", "murmur2_random")
        .set("linger.ms", "1")
        .set("message.timeout.ms", MESSAGE_TIMEOUT.as_millis().to_string())
        .set("queue.buffering.max.kbytes", QUEUE_KIB_MAX)
        .create()
        .map_err(broker)
}

impl KafkaSink {
    fn current(&self) -> Arc<FutureProducer> {
        self.producer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A producer with a fatal error never sends again: another takes its place, once.
    fn rebuild_if_fatal(&self, used: &Arc<FutureProducer>) {
        let Some((code, reason)) = used.client().fatal_error() else { return };
        let mut current = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&current, used) {
            return;
        }
        match producer(&self.config) {
            Ok(fresh) => {
                tracing::warn!(%code, reason, "the producer failed for good and was rebuilt");
                *current = Arc::new(fresh);
            }
            Err(error) => {
                tracing::error!(%error, "the producer failed for good and can't be rebuilt; trying again");
            }
        }
    }
}

#[async_trait]
impl Sink for KafkaSink {
    async fn send(&self, record: Record) -> Result<(), Refusal> {
        let topic = self.config.physical(&record.topic);
        let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(value) })
        });
        let producer = self.current();
        let sending = FutureRecord::to(&topic).key(&record.key).payload(&record.payload).headers(headers);
        match producer.send(sending, QUEUE_TIMEOUT).await {
            Ok(_) => Ok(()),
            Err((error, _)) => {
                self.rebuild_if_fatal(&producer);
                Err(refusal(&error))
            }
        }
    }

    async fn check(&self) -> Result<(), Error> {
        let producer = self.current();
        let asked = tokio::task::spawn_blocking(move || {
            producer.client().fetch_metadata(None, REQUEST_TIMEOUT).map(drop).map_err(broker)
        });
        asked.await.map_err(broker)?
    }
}

/// What the broker says of the record itself is final; all else is an outage.
fn refusal(error: &KafkaError) -> Refusal {
    use RDKafkaErrorCode as Code;
    match error.rdkafka_error_code() {
        Some(
            Code::MessageSizeTooLarge
            | Code::MessageBatchTooLarge
            | Code::InvalidMessageSize
            | Code::InvalidTopic
            | Code::InvalidRecord
            | Code::PolicyViolation
            | Code::TopicAuthorizationFailed
            | Code::UnknownTopic
            | Code::UnknownTopicOrPartition
            | Code::UnknownPartition,
        ) => Refusal::Record(error.to_string()),
        _ => Refusal::Outage(error.to_string()),
    }
}
