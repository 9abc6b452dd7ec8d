//! The relay of this process.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chassis::again;
use outbox::kafka::{self, KafkaSink};
use outbox::retention::Housekeeping;
use outbox::{Error, Metrics, Relay, RelayOptions, RelayStatus, Tracer, Wake};
use sqlx::PgPool;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Config;

/// A relay whose role lacks a right can't go on. Another one is made after this pause: whoever gives the right, such as a
/// migration that is under way, need not restart the process, and its other parts go on.
const DENIED_PAUSE: Duration = Duration::from_secs(2);

/// Sends what the outbox holds, and keeps house beside it.
pub(crate) struct Sending {
    /// As the relay, and as the owner of the logs.
    pools: (PgPool, PgPool),
    kafka: kafka::Config,
    /// How often it looks when nobody wakes it; `None` as the library has it.
    poll: Option<Duration>,
    /// Who commits here has it too.
    wake: Wake,
    metrics: Metrics,
    tracer: Tracer,
    pub(crate) said: Said,
}

/// What the relay of the moment says of itself. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Said(Arc<Mutex<watch::Receiver<RelayStatus>>>);

impl Sending {
    /// Of this process' settings.
    pub(crate) fn new(
        config: &Config,
        pools: (PgPool, PgPool),
        wake: Wake,
        (metrics, tracer): (Metrics, Tracer),
    ) -> Self {
        let (kafka, poll) = (config.kafka.clone(), config.relay_poll);
        Self { pools, kafka, poll, wake, metrics, tracer, said: Said::default() }
    }

    /// Until `shutdown`.
    ///
    /// # Errors
    /// [`Error::Broker`] for settings that librdkafka refuses.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let denied = |error: &Error| matches!(error, Error::Denied(_));
        let send = || {
            let (relay, shutdown) = (self.relay(), shutdown.clone());
            async move { relay?.run(shutdown).await }
        };
        again("relay", DENIED_PAUSE, shutdown.clone(), denied, send).await
    }

    fn relay(&self) -> Result<Relay<KafkaSink>, Error> {
        let mut options = RelayOptions::default();
        if let Some(poll) = self.poll {
            (options.poll_min, options.poll_max) = (poll, poll);
        }
        let relay = Relay::new(self.pools.0.clone(), kafka::sink(&self.kafka)?)
            .with(options)
            .housekeeping(Housekeeping::new(self.pools.1.clone()))
            .woken_by(self.wake.clone())
            .metrics(self.metrics.clone())
            .tracer(self.tracer.clone());
        self.said.now_by(relay.status());
        Ok(relay)
    }
}

impl Said {
    /// Why not everything that was granted can be sent: which right, broker, topic or partition is missing.
    pub(crate) fn ready(&self) -> Result<(), String> {
        let status = self.0.lock().unwrap_or_else(PoisonError::into_inner).borrow().clone();
        match status.faults() {
            faults if !faults.is_empty() => Err(faults.join("; ")),
            _ if !status.started => Err("the relay has not looked after its topics yet".to_owned()),
            _ => Ok(()),
        }
    }

    fn now_by(&self, status: watch::Receiver<RelayStatus>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }
}

impl Default for Said {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(watch::channel(RelayStatus::default()).1)))
    }
}
