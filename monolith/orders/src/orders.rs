//! The module as others hold it.

use std::sync::Arc;

use catalog::Catalog;
use chassis::Page;
use outbox::Wake;
use proto::{OrderId, PaymentId};
use sqlx::PgPool;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::{Error, NewOrder, Order, Payments, Placed, place, store};

/// The most orders that one process places at once; more are refused at the edge.
pub const PLACING_MAX: usize = 512;

/// Orders, over a pool of its own role. Clones share everything.
#[derive(Clone)]
pub struct Orders {
    pub(crate) pool: PgPool,
    pub(crate) catalog: Catalog,
    pub(crate) payments: Arc<dyn Payments>,
    /// Transactions that outlive their request; the process waits for them before it ends.
    pub(crate) tasks: TaskTracker,
    pub(crate) placing: Arc<Semaphore>,
    pub(crate) wake: Wake,
}

impl Orders {
    /// Orders over the pool of their role. `tasks` is joined by the process.
    pub fn new(pool: PgPool, catalog: Catalog, payments: Arc<dyn Payments>, tasks: TaskTracker) -> Self {
        let placing = Arc::new(Semaphore::new(PLACING_MAX));
        Self { pool, catalog, payments, tasks, placing, wake: Wake::default() }
    }

    /// Wakes a relay of this process after each order. Without, it finds the events when it looks next.
    #[must_use]
    pub fn wakes(mut self, relay: Wake) -> Self {
        self.wake = relay;
        self
    }

    /// Places an order: stores it, opens its payment and publishes `OrderPlaced`, all or nothing. Once begun it goes on
    /// even when the caller's future is dropped. Repeated with the same key and request, it answers as before.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::InFlight`], [`Error::KeyReused`], [`Error::Full`], or what went wrong inside.
    pub async fn place(&self, order: NewOrder) -> Result<Placed, Error> {
        place::place(self, order).await
    }

    /// An order of the tenant.
    ///
    /// # Errors
    /// [`Error::NotFound`], also for another tenant's.
    pub async fn find(&self, tenant: &str, id: OrderId) -> Result<Order, Error> {
        store::find(&self.pool, tenant, id).await?.ok_or(Error::NotFound)
    }

    /// The tenant's order that a payment belongs to.
    ///
    /// # Errors
    /// [`Error::NotFound`], also for another tenant's.
    pub async fn find_by_payment(&self, tenant: &str, payment: PaymentId) -> Result<Order, Error> {
        store::find_by_payment(&self.pool, tenant, payment).await?.ok_or(Error::NotFound)
    }

    /// A page of the tenant's orders, newest first.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn list(&self, tenant: &str, page: Page<OrderId>) -> Result<Vec<Order>, Error> {
        store::list(&self.pool, tenant, page).await
    }

    /// The payments of all tenants' orders with their tenants, by id, those after `after`: every payment that was ever
    /// asked for.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn payments(
        &self,
        after: Option<PaymentId>,
        limit: i64,
    ) -> Result<Vec<(String, PaymentId)>, Error> {
        let rows = store::payments(&self.pool, after, limit).await?;
        Ok(rows.into_iter().map(|(tenant, id)| (tenant, PaymentId::from_uuid(id))).collect())
    }
}
