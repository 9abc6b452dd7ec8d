//! Sending from the process that commits, without an outbox.

use std::time::Duration;

use anyhow::{Context, Result};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};

use super::produce::{headers, settings};
use crate::{ground::Scene, outbox::workload};

/// How long the last records may take.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(60);

/// Sends a record of each booking as soon as its commit is acknowledged. It loses what is committed before a crash; no relay
/// can be sooner.
#[derive(Clone)]
pub(crate) struct Direct {
    producer: FutureProducer,
    topic: String,
}

impl Direct {
    pub(crate) fn new(servers: &str, scene: &Scene) -> Result<Self> {
        Ok(Self { producer: settings(servers).create()?, topic: scene.topic() })
    }

    /// Hands the record to the producer and does not wait.
    pub(crate) fn send(&self, account: i64, version: i64) -> Result<()> {
        let key = account.to_string();
        let payload = workload::payload(&key, version);
        let record = FutureRecord::to(&self.topic).key(&key).payload(&payload).headers(headers(&key));
        self.producer.send_result(record).map_err(|(error, _)| error)?;
        Ok(())
    }

    /// Waits until all are sent.
    pub(crate) async fn stop(self) -> Result<()> {
        tokio::task::spawn_blocking(move || self.producer.flush(FLUSH_TIMEOUT))
            .await?
            .context("send the last records")
    }
}
