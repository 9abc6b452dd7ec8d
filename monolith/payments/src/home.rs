//! What differs between the homes.

use std::{fmt, sync::Arc};

use sqlx::PgPool;

use crate::{Authority, Provider};

/// A home of payments. Clones share it.
#[derive(Clone)]
pub struct Home {
    /// The module's own pool; its role decides the origin of what is published.
    pub pool: PgPool,
    /// Who may write a payment.
    pub authority: Arc<dyn Authority>,
    /// Who moves the money.
    pub provider: Arc<dyn Provider>,
}

impl fmt::Debug for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Home").finish_non_exhaustive()
    }
}
