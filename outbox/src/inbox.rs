//! The inbox: a consumer group with handlers, each applying an event once, in the transaction of its effect.

mod consumer;
mod gate;
mod options;
mod verdict;

use std::sync::Arc;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use self::consumer::Consumer;
pub(crate) use self::gate::{Attempt, Dealt, Gate, Kind};
pub use self::options::InboxOptions;
use crate::{Error, Handler, Source, handler::Plain};

/// A consumer group over one database role, with its handlers.
pub struct Inbox<S> {
    pool: PgPool,
    source: S,
    gates: Vec<Gate>,
    options: InboxOptions,
}

impl<S: Source> Inbox<S> {
    /// An inbox over a pool whose role was granted `outbox.grant_module`.
    pub fn new(pool: PgPool, source: S) -> Self {
        Self { pool, source, gates: Vec::new(), options: InboxOptions::default() }
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

    pub(crate) fn gate(mut self, kind: Kind, handler: Arc<dyn crate::handler::Erased>) -> Self {
        self.gates.push(Gate::new(self.pool.clone(), kind, handler));
        self
    }

    /// Applies events until `shutdown`, finishing the one at hand. A database or broker that is down is waited for.
    ///
    /// # Errors
    /// What waiting can't mend: [`Error::Denied`], [`Error::OffsetLost`], [`Error::WentBack`].
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let Self { pool, source, mut gates, options } = self;
        for gate in &mut gates {
            gate.bound(&options);
        }
        Consumer { pool, source, gates, options }.run(shutdown).await
    }
}
