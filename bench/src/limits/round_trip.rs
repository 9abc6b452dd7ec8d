//! A round trip through Kafka, alone.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::produce::settings;
use crate::{
    ground::{Ground, TOPIC},
    outbox::{Listener, workload},
};

/// How long a record may be on its way.
const PATIENCE: Duration = Duration::from_secs(10);

/// Microseconds from handing a record to a producer with the relay's settings until a consumer has it, one record at a time.
pub(crate) async fn round_trip(ground: &Ground, seconds: u64) -> Result<Histogram<u64>> {
    let prefix = ground.topic("trip").await?;
    let topic = format!("{prefix}{}", TOPIC.name());
    let producer: FutureProducer = settings(ground.stack.kafka()).create()?;
    let mut listener = Listener::start(ground.stack.kafka(), &topic)?;
    let mut histogram = Histogram::new(3)?;
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut version = 0;
    while Instant::now() < until {
        version += 1;
        let payload = workload::payload("1", version);
        let sent = Instant::now();
        let record = FutureRecord::to(&topic).key("1").payload(&payload);
        producer.send(record, PATIENCE).await.map_err(|(error, _)| error)?;
        let arrived = listener.next(PATIENCE).await.context("a record did not come back")?;
        // The first brings connections up.
        if version > 1 {
            let micros = arrived.at.saturating_duration_since(sent).as_micros();
            histogram.record(u64::try_from(micros)?)?;
        }
    }
    listener.stop().await?;
    ground.forget(&prefix).await?;
    Ok(histogram)
}
