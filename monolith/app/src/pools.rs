//! One pool per module, each under its own role.

use chassis::Url;
use chassis::database::{PoolOptions, pool};
use sqlx::PgPool;

use crate::Databases;

/// Housekeeping uses one connection at a time.
const HOUSEKEEPER_MAX: u32 = 1;

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
    /// Schema `outbox`, as the owner of its logs.
    pub housekeeper: PgPool,
    /// Schema `strangler`, as the controller.
    pub strangler: PgPool,
}

impl Pools {
    /// Opens all of them. They connect when first used, so that a process starts while its database is away.
    ///
    /// # Errors
    /// When a URL has an option that PostgreSQL connections don't know.
    pub fn open(databases: &Databases, connections_max: u32) -> Result<Self, sqlx::Error> {
        let bounded = |url: &Url, module: &str, connections_max| {
            pool(url, &PoolOptions::new(format!("monolith.{module}"), connections_max))
        };
        let open = |url: &Url, module: &str| bounded(url, module, connections_max);
        Ok(Self {
            catalog: open(&databases.catalog, "catalog")?,
            orders: open(&databases.orders, "orders")?,
            payments: open(&databases.payments, "payments")?,
            notifications: open(&databases.notifications, "notifications")?,
            outbox: open(&databases.outbox, "outbox")?,
            housekeeper: bounded(&databases.housekeeper, "housekeeper", HOUSEKEEPER_MAX)?,
            strangler: open(&databases.strangler, "strangler")?,
        })
    }

    /// Closes all of them, waiting for connections in use.
    pub(crate) async fn close(&self) {
        let Self { catalog, orders, payments, notifications, outbox, housekeeper, strangler } = self;
        for pool in [catalog, orders, payments, notifications, outbox, housekeeper, strangler] {
            pool.close().await;
        }
    }
}
