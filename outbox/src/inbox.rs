//! The inbox: a consumer group with handlers, each applying an event once, in the transaction of its effect.

mod attempt;
mod baseline;
mod batch;
mod compare;
mod consumer;
mod ending;
mod gate;
mod lane;
mod marks;
mod options;
mod parking;
mod patience;
mod reading;
mod refill;
mod span;
mod start;
mod sweep;
mod tally;
mod verdict;
mod work;

use std::sync::Arc;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

pub(crate) use self::{
    attempt::{Attempt, Dealt},
    gate::{Gate, Kind},
    verdict::chain,
};
pub use self::{
    baseline::Baseline,
    compare::{Behind, compare},
    options::{InboxOptions, RefillOptions},
    tally::Tally,
};
use self::{consumer::Consumer, refill::Refilling, tally::Counts};
use crate::{Error, Handler, Metrics, Refill, Source, Tracer, handler::Plain};

/// A consumer group over one database role, with its handlers.
pub struct Inbox<S> {
    pool: PgPool,
    source: S,
    gates: Vec<Gate>,
    options: InboxOptions,
    baseline: Baseline,
    refill: Option<Arc<dyn Refill>>,
    counts: Counts,
}

impl<S: Source> Inbox<S> {
    /// An inbox over a pool whose role was granted `outbox.grant_module`.
    pub fn new(pool: PgPool, source: S) -> Self {
        Self {
            pool,
            source,
            gates: Vec::new(),
            options: InboxOptions::default(),
            baseline: Baseline::default(),
            refill: None,
            counts: Counts::default(),
        }
    }

    /// Adds a handler. Handlers of one inbox share its group, not their cursors. A handler that is new in a group which has
    /// read on would miss what the group has passed: it needs a group of its own, or [`Baseline::Now`]. One that was left out
    /// for a while is given what the group has read meanwhile. All members of a group need the same handlers of a topic.
    #[must_use]
    pub fn register<H: Handler>(self, handler: H) -> Self {
        self.gate(Kind::Handler, Arc::new(Plain(handler)))
    }

    /// Replaces the bounds.
    #[must_use]
    pub fn with(mut self, options: InboxOptions) -> Self {
        self.options = options;
        self
    }

    /// Where handlers begin that have not begun yet ([`Baseline::Earliest`] without this).
    #[must_use]
    pub fn baseline(mut self, baseline: Baseline) -> Self {
        self.baseline = baseline;
        self
    }

    /// Where to ask for events that never came, or found no room to wait. Without it a key with a gap waits for the broker to
    /// bring what is missing, and full parking stops the consumer.
    #[must_use]
    pub fn refill(mut self, log: Arc<dyn Refill>) -> Self {
        self.refill = Some(log);
        self
    }

    /// Counts into these instruments.
    #[must_use]
    pub fn metrics(mut self, metrics: Metrics) -> Self {
        self.counts.metrics = metrics;
        self
    }

    /// Makes a span for each run of a handler, in the trace of the event.
    #[must_use]
    pub fn tracer(mut self, tracer: Tracer) -> Self {
        self.counts.tracer = tracer;
        self
    }

    /// What this inbox decides, counted from now on.
    pub fn tally(&self) -> Tally {
        self.counts.tally.clone()
    }

    pub(crate) fn gate(mut self, kind: Kind, handler: Arc<dyn crate::handler::Erased>) -> Self {
        self.gates.push(Gate::new(self.pool.clone(), kind, handler));
        self
    }

    /// Applies events until `shutdown`, finishing the transactions at hand. A database or broker that is down is waited for.
    ///
    /// # Errors
    /// What waiting can't mend: [`Error::Setup`], [`Error::Denied`], [`Error::OffsetLost`], [`Error::Fenced`],
    /// [`Error::WentBack`].
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let Self { pool, source, gates, options, baseline, refill, counts } = self;
        Consumer { pool, source, gates, options, baseline, refill, counts }.run(shutdown).await
    }
}
