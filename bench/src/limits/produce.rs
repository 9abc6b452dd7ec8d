//! Producing alone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use rdkafka::{
    ClientConfig, ClientContext,
    error::{KafkaError, RDKafkaErrorCode},
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer},
};

use crate::{
    ground::{self, Ground, TOPIC},
    outbox::workload,
};

/// Waits for room in the producer's queue and for the last reports.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(60);

/// Counts delivery reports.
#[derive(Clone, Default)]
struct Reports {
    delivered: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
}

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let counter = if result.is_ok() { &self.delivered } else { &self.refused };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Records a second of a producer with the relay's settings that is given records of the relay's shape and size as fast as it
/// takes them, up to the last report.
pub(crate) async fn produce(ground: &Ground, records: u64, keys: i64) -> Result<f64> {
    let prefix = ground.topic("produce").await?;
    let (servers, topic) = (ground.stack.kafka().to_owned(), format!("{prefix}{}", TOPIC.name()));
    let rate = tokio::task::spawn_blocking(move || run(&servers, &topic, records, keys)).await??;
    ground.forget(&prefix).await?;
    Ok(rate)
}

fn run(servers: &str, topic: &str, records: u64, keys: i64) -> Result<f64> {
    let reports = Reports::default();
    let producer: ThreadedProducer<Reports> =
        settings(servers).set("linger.ms", "1").create_with_context(reports.clone())?;
    producer.client().fetch_metadata(Some(topic), FLUSH_TIMEOUT)?;
    let started = Instant::now();
    for n in 0..records {
        let key = workload::account(n, keys).to_string();
        let payload = workload::payload(&key, 1);
        let headers = headers(&key);
        let mut record = BaseRecord::to(topic).key(&key).payload(&payload).headers(headers);
        while let Err((error, back)) = producer.send(record) {
            ensure!(error == KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), "{error}");
            // Its own thread takes the reports; a full queue has room in less than a batch's time.
            std::thread::yield_now();
            record = back;
        }
    }
    producer.flush(FLUSH_TIMEOUT)?;
    let seconds = started.elapsed().as_secs_f64();
    let delivered = reports.delivered.load(Ordering::Relaxed);
    ensure!(delivered == records, "{delivered} of {records} records were delivered");
    Ok(per_second(records, seconds))
}

/// A producer's settings as the relay has them: no linger. [`produce`] lingers for the sake of fuller batches.
pub(super) fn settings(servers: &str) -> ClientConfig {
    let mut settings = ground::client(servers);
    settings
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("partitioner", "murmur2_random")
        .set("linger.ms", "0")
        .set("queue.buffering.max.kbytes", "65536");
    settings
}

/// Events a second.
pub(crate) fn per_second(events: u64, seconds: f64) -> f64 {
    // Exact below 2^53; no benchmark comes near.
    #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are far below 2^53")]
    let events = events as f64;
    events / seconds
}

/// As many headers, and as long, as a relay's record has.
pub(super) fn headers(key: &str) -> OwnedHeaders {
    let all = [
        ("ce_specversion", "1.0"),
        ("ce_id", "01935d7c-7b1e-7c3a-8d2e-5a1b2c3d4e5f"),
        ("ce_source", "bench.accounts"),
        ("ce_type", "bench.booked.v1"),
        ("ce_time", "2026-01-01T00:00:00.123456Z"),
        ("ce_subject", key),
        ("banyan-version", "17"),
        ("banyan-origin", "bench.accounts"),
    ];
    all.into_iter().fold(OwnedHeaders::new_with_capacity(all.len()), |headers, (key, value)| {
        headers.insert(Header { key, value: Some(value) })
    })
}
