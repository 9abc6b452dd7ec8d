//! The relay: sends what was committed, per key in order.
//!
//! Order rests on three rules. Only a delivery report removes a row from the queue; at most one record of a key is in
//! flight; and a row is sent only when the key's row before it is known to be gone: the statement that read the row found it
//! so, or this relay's own deletion of it has committed. So a relay that was paused or cut off can repeat a record, but never
//! overtake one.

mod answers;
mod database;
mod engine;
mod flight;
mod gone;
mod jobs;
mod landing;
mod lanes;
mod options;
mod reader;
mod retries;
mod status;
mod tail;
mod window;

use std::{collections::BTreeMap, sync::Arc};

use futures::stream::FuturesUnordered;
use sqlx::PgPool;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::{
    database::own_pool,
    engine::{Busy, Dues, Engine},
    flight::Flight,
    jobs::Tenant,
    reader::Reader,
    retries::Retries,
    window::Window,
};
pub use self::{options::RelayOptions, status::RelayStatus};
use crate::{
    Error, Metrics, Sink, Tracer, Wake, database::Database, retention::Housekeeping, store::Refusals,
};

/// Sends the events of one database to a [`Sink`]. Any number may run; they share the work by leases.
pub struct Relay<S> {
    pool: PgPool,
    sink: Arc<S>,
    options: RelayOptions,
    name: Option<String>,
    wake: Wake,
    status: watch::Sender<RelayStatus>,
    tracer: Tracer,
    housekeeping: Housekeeping,
    metrics: Metrics,
}

impl<S: Sink> Relay<S> {
    /// A relay over a pool whose role was granted `outbox.grant_relay`. It opens up to `connections_max` connections of its own,
    /// as that pool would, with planner settings for look-ups by index; so a connection pooler must keep a session's settings.
    pub fn new(pool: PgPool, sink: S) -> Self {
        Self {
            housekeeping: Housekeeping::new(pool.clone()),
            pool,
            sink: Arc::new(sink),
            options: RelayOptions::default(),
            name: None,
            wake: Wake::default(),
            tracer: Tracer::noop(),
            status: watch::Sender::default(),
            metrics: Metrics::noop(),
        }
    }

    /// Replaces the bounds.
    #[must_use]
    pub fn with(mut self, options: RelayOptions) -> Self {
        self.options = options;
        self
    }

    /// Replaces its housekeeping, which makes the log's days ahead beside the sending, always over the relay's pool. With a pool whose
    /// role is the housekeeper ([`crate::grant_housekeeper`]) it drops old days too; by default they stay.
    #[must_use]
    pub fn housekeeping(mut self, housekeeping: Housekeeping) -> Self {
        self.housekeeping = housekeeping;
        self
    }

    /// Names it, with 1 to 200 bytes. Of two relays with one name one sends; the other waits until that is gone or has not
    /// renewed its leases for `lease_ttl`. Without a name each is on its own, and they share.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Makes a span for each send of an event whose publisher was traced.
    #[must_use]
    pub fn tracer(mut self, tracer: Tracer) -> Self {
        self.tracer = tracer;
        self
    }

    /// Counts what it sends. Without, nothing is counted.
    #[must_use]
    pub fn metrics(mut self, metrics: Metrics) -> Self {
        self.metrics = metrics;
        self
    }

    /// Wakes this relay after a commit in the same process.
    pub fn wake(&self) -> Wake {
        self.wake.clone()
    }

    /// Is woken by a handle that was made before it, with `Wake::default()`: for publishers that are made first, and for a
    /// relay that takes an ended one's place.
    #[must_use]
    pub fn woken_by(mut self, wake: Wake) -> Self {
        self.wake = wake;
        self
    }

    /// How it is doing, from now on; also after its end.
    pub fn status(&self) -> watch::Receiver<RelayStatus> {
        self.status.subscribe()
    }

    /// Sends until `shutdown`, then waits for what is in flight (at most `drain_timeout`) and gives its leases back (within as
    /// long again). A database or broker that is down, and a right that its role lacks, is waited for while it runs; nothing is
    /// dropped, and [`Relay::status`] says what is missing.
    ///
    /// # Errors
    /// None of its own: it ends by `shutdown` only.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let id = Uuid::now_v7();
        tracing::info!(relay = %id, name = self.name, "the relay starts");
        let options = self.options;
        let engine = Engine {
            database: Database::new(
                own_pool(&self.pool, options.connections_max, options.query_timeout),
                options.query_timeout,
            ),
            flight: Flight::new(self.sink.clone(), self.tracer, &options),
            sink: self.sink,
            tenant: Tenant { id, name: self.name.unwrap_or_else(|| id.to_string()), ttl: options.lease_ttl },
            wake: self.wake,
            status: self.status,
            metrics: self.metrics,
            window: Window::new(options.window_max, options.pipelined),
            reader: Reader::new(&options),
            jobs: FuturesUnordered::new(),
            busy: Busy::default(),
            delivered: Vec::new(),
            refusals: Refusals::default(),
            retries: Retries::new(options.stall_after),
            unwritable: BTreeMap::new(),
            due: Dues::now(),
            outage: options.outage_delay_min,
            stopping: false,
            options,
        };
        // Housekeeping ends with the sending, whatever ended that.
        let ended = shutdown.child_token();
        let housekeeping = self.housekeeping.making_over(self.pool).run(ended.clone());
        let sending = async {
            engine.run(shutdown).await;
            ended.cancel();
        };
        // Boxed: the engine is large, and callers hold this future on their stack.
        Box::pin(async { tokio::join!(sending, housekeeping) }).await;
        Ok(())
    }
}
