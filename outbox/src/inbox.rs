//! The inbox: a consumer group with handlers, each applying an event once, in the transaction of its effect.

mod consumer;
mod gate;
mod options;
mod refill;
mod verdict;

use std::sync::Arc;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use self::consumer::Consumer;
pub(crate) use self::gate::{Attempt, Dealt, Gate, Kind};
pub use self::options::{InboxOptions, RefillOptions};
use self::refill::Refilling;
pub(crate) use self::verdict::chain;
use crate::{Error, Handler, Refill, Source, handler::Plain};

/// A consumer group over one database role, with its handlers.
pub struct Inbox<S> {
    pool: PgPool,
    source: S,
    gates: Vec<Gate>,
    options: InboxOptions,
    refill: Option<Arc<dyn Refill>>,
}

impl<S: Source> Inbox<S> {
    /// An inbox over a pool whose role was granted `outbox.grant_module`.
    pub fn new(pool: PgPool, source: S) -> Self {
        Self { pool, source, gates: Vec::new(), options: InboxOptions::default(), refill: None }
    }

    /// Adds a handler. Handlers of one inbox share its group, not their cursors.
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

    /// Where to ask for events that never came, or found no room to wait. Without it a key with a gap waits for the broker to
    /// bring what is missing, and full parking stops the consumer.
    #[must_use]
    pub fn refill(mut self, log: Arc<dyn Refill>) -> Self {
        self.refill = Some(log);
        self
    }

    pub(crate) fn gate(mut self, kind: Kind, handler: Arc<dyn crate::handler::Erased>) -> Self {
        self.gates.push(Gate::new(self.pool.clone(), kind, handler));
        self
    }

    /// Applies events until `shutdown`, finishing the one at hand. A database or broker that is down is waited for.
    ///
    /// # Errors
    /// What waiting can't mend: [`Error::Denied`], [`Error::OffsetLost`], [`Error::WentBack`].
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let Self { pool, source, mut gates, options, refill } = self;
        for gate in &mut gates {
            let refilling = refill.clone().map(|log| Refilling::new(log, options.refill.clone()));
            gate.bound(&options, refilling);
        }
        Consumer { pool, source, gates, options }.run(shutdown).await
    }
}
