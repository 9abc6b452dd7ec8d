//! What differs between the homes.

use std::{fmt, sync::Arc};

use outbox::Wake;
use sqlx::PgPool;

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
    /// Where this process dies, for tests; [`Crash::none`] otherwise.
    pub crash: Crash,
}

impl fmt::Debug for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Home").field("name", &self.name).finish_non_exhaustive()
    }
}
