//! What differs between the homes.

use std::{fmt, sync::Arc};

use outbox::Wake;
use sqlx::PgPool;
use tokio::sync::Notify;

use crate::{Authority, Crash, Provider};

/// A home of payments. Clones share it.
#[derive(Clone)]
pub struct Home {
    /// `source` or `target`; the audit says through which home something was done.
    pub name: &'static str,
    /// The module's own pool; its role decides the origin of what is published.
    pub pool: PgPool,
    /// Who may write a payment.
    pub authority: Arc<dyn Authority>,
    /// Who moves the money.
    pub provider: Arc<dyn Provider>,
    /// Wakes a relay of this process when an outcome is committed; `Wake::default()` where none runs.
    pub wake: Wake,
    /// Wakes the engine of this process when a payment's first event has come; `Work::default()` where none runs.
    pub work: Work,
    /// Where this process dies, for tests; [`Crash::none`] otherwise.
    pub crash: Crash,
}

/// Wakes an engine that runs in this process. Only a hint: one that is not woken polls.
#[derive(Debug, Clone, Default)]
pub struct Work(Arc<Notify>);

impl Work {
    pub(crate) fn comes(&self) {
        self.0.notify_one();
    }

    pub(crate) async fn came(&self) {
        self.0.notified().await;
    }
}

impl fmt::Debug for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Home").field("name", &self.name).finish_non_exhaustive()
    }
}
