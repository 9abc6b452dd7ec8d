//! A plain consumer that notes when each record came.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    task::JoinHandle,
};

use super::verify;
use crate::ground;

/// How long one look for records takes at most.
const POLL: Duration = Duration::from_millis(50);

/// A record, and when the consumer had it.
pub(crate) struct Arrival {
    pub(crate) key: String,
    pub(crate) version: i64,
    pub(crate) at: Instant,
}

/// Reads a topic from its beginning until it is stopped, on a thread of its own: nothing else delays its clock.
pub(crate) struct Listener {
    arrivals: UnboundedReceiver<Arrival>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Listener {
    pub(crate) fn start(servers: &str, topic: &str) -> Result<Self> {
        let consumer: BaseConsumer = ground::client(servers)
            .set("group.id", "listener")
            .set("enable.auto.commit", "false")
            .create()?;
        let (topic, stop) = (topic.to_owned(), Arc::new(AtomicBool::new(false)));
        // Bounded by the events of one round.
        let (found, arrivals) = unbounded_channel();
        let stopped = stop.clone();
        let thread = tokio::task::spawn_blocking(move || {
            let mut all = TopicPartitionList::new();
            for partition in verify::ends(&consumer, &topic)?.keys() {
                all.add_partition_offset(&topic, *partition, Offset::Beginning)?;
            }
            consumer.assign(&all)?;
            while !stopped.load(Ordering::Relaxed) {
                let Some(record) = consumer.poll(POLL) else { continue };
                let at = Instant::now();
                // A topic that is seconds old is not known everywhere yet; whoever waits for its records has a bound.
                let Ok(record) = record else { continue };
                let booked: verify::Booked =
                    serde_json::from_slice(record.payload().context("a record without a payload")?)?;
                if found.send(Arrival { key: booked.key, version: booked.version, at }).is_err() {
                    break;
                }
            }
            Ok(())
        });
        Ok(Self { arrivals, stop, thread })
    }

    /// The next record, if one comes within `patience`.
    pub(crate) async fn next(&mut self, patience: Duration) -> Option<Arrival> {
        tokio::time::timeout(patience, self.arrivals.recv()).await.ok().flatten()
    }

    /// Ends the thread and passes its error on.
    pub(crate) async fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.await?
    }
}
