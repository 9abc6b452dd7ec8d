//! One pool per module, each under its own role.

use std::time::Duration;

use chassis::Url;
use chassis::database::{PoolOptions, pool};
use sqlx::PgPool;

use crate::Databases;

/// Housekeeping uses one connection at a time.
const HOUSEKEEPER_MAX: u32 = 1;
/// How long one statement of it may run: while a handler lacks an event, a whole day of the log is read before it is dropped.
const HOUSEKEEPER_TIMEOUT: Duration = Duration::from_secs(1800);

/// The pools. Clones share them.
#[derive(Debug, Clone)]
pub struct Pools {
    /// Schema `catalog`.
    pub catalog: PgPool,
    /// Schema `orders`.
    pub orders: PgPool,
    /// Schema `payments`.
    #[cfg(feature = "local-payments")]
    pub payments: PgPool,
    /// Schema `notifications`.
    pub notifications: PgPool,
    /// Schema `outbox`, as a relay.
    pub outbox: PgPool,
    /// Schema `outbox`, as the owner of its logs.
    pub housekeeper: PgPool,
    /// Schema `strangler`, as the controller.
    pub strangler: PgPool,
    /// Schema `webhooks`.
    pub webhooks: PgPool,
}

impl Pools {
    /// Opens all of them. They connect when first used, so that a process starts while its database is away.
    ///
    /// # Errors
    /// When a URL has an option that PostgreSQL connections don't know.
    pub fn open(databases: &Databases, connections_max: u32) -> Result<Self, sqlx::Error> {
        let open = |url: &Url, module: &str| {
            pool(url, &PoolOptions::new(format!("monolith.{module}"), connections_max))
        };
        let housekeeping = PoolOptions {
            statement_timeout: HOUSEKEEPER_TIMEOUT,
            ..PoolOptions::new("monolith.housekeeper", HOUSEKEEPER_MAX)
        };
        Ok(Self {
            catalog: open(&databases.catalog, "catalog")?,
            orders: open(&databases.orders, "orders")?,
            #[cfg(feature = "local-payments")]
            payments: open(&databases.payments, "payments")?,
            notifications: open(&databases.notifications, "notifications")?,
            outbox: open(&databases.outbox, "outbox")?,
            housekeeper: pool(&databases.housekeeper, &housekeeping)?,
            strangler: open(&databases.strangler, "strangler")?,
            webhooks: open(&databases.webhooks, "webhooks")?,
        })
    }

    /// Closes all of them, waiting for connections in use.
    pub(crate) async fn close(&self) {
        #[cfg(feature = "local-payments")]
        self.payments.close().await;
        let Self { catalog, orders, notifications, outbox, housekeeper, strangler, webhooks, .. } = self;
        for pool in [catalog, orders, notifications, outbox, housekeeper, strangler, webhooks] {
            pool.close().await;
        }
    }
}
