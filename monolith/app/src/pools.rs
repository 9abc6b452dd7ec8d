//! One pool per module, each under its own role.

use chassis::Url;
use chassis::database::{PoolOptions, pool};
use sqlx::PgPool;

use crate::Databases;

/// The pools. Clones share them.
#[derive(Debug, Clone)]
pub struct Pools {
    /// Schema `catalog`.
    pub catalog: PgPool,
    /// Schema `orders`.
    pub orders: PgPool,
    /// Schema `payments`.
    pub payments: PgPool,
    /// Schema `notifications`.
    pub notifications: PgPool,
    /// Schema `outbox`, as a relay.
    pub outbox: PgPool,
    /// Schema `strangler`, as the controller.
    pub strangler: PgPool,
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
        Ok(Self {
            catalog: open(&databases.catalog, "catalog")?,
            orders: open(&databases.orders, "orders")?,
            payments: open(&databases.payments, "payments")?,
            notifications: open(&databases.notifications, "notifications")?,
            outbox: open(&databases.outbox, "outbox")?,
            strangler: open(&databases.strangler, "strangler")?,
        })
    }

    /// Closes all of them, waiting for connections in use.
    pub(crate) async fn close(&self) {
        for pool in
            [&self.catalog, &self.orders, &self.payments, &self.notifications, &self.outbox, &self.strangler]
        {
            pool.close().await;
        }
    }
}
