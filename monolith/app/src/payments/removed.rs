//! What is left of payments at a source that is sealed: orders, and the service that owns every payment.

use std::sync::Arc;

use ::payments::{
    Balance, Capture, Delivered, Desk, Epoch, Error, Notice, Page, Payment, Refund, Tenant, Void,
};
use async_trait::async_trait;
use orders::Orders;
use outbox::BoxError;
use proto::{Money, PaymentId};
use sqlx::postgres::PgTransaction;
use strangler::{Applied, Key, KeyCopy, Pinned};

use super::{keys, known, not_applied, order_of};

/// The service's desk. Orders know payments that the service has not got yet. No payment changes its owner any more, so no command
/// tells an epoch.
pub struct ServicePayments {
    remote: Arc<dyn Desk>,
    orders: Orders,
}

/// Payments, as the migration's controller sees them here: their keys, and nothing else. From `sealed` on its looks and gates ask for
/// no more.
pub struct RetiredDomain(Orders);

impl ServicePayments {
    /// Asks the service's desk for all there is.
    pub fn new(remote: Arc<dyn Desk>, orders: Orders) -> Self {
        Self { remote, orders }
    }
}

#[async_trait]
impl Desk for ServicePayments {
    /// From the service; before it has applied the payment's first event, from the order's row.
    async fn find(&self, tenant: &Tenant, id: PaymentId) -> Result<Payment, Error> {
        match self.remote.find(tenant, id).await {
            Err(Error::NotFound) => {
                Ok(not_applied(tenant.clone(), order_of(&self.orders, tenant, id).await?))
            }
            found => found,
        }
    }

    /// The owner answers, so nobody has seen more.
    async fn find_copy(&self, tenant: &Tenant, id: PaymentId, _: i64) -> Result<Payment, Error> {
        self.find(tenant, id).await
    }

    async fn list(&self, tenant: &Tenant, page: Page) -> Result<Vec<Payment>, Error> {
        self.remote.list(tenant, page).await
    }

    async fn trial_balance(&self, tenant: &Tenant) -> Result<Vec<Balance>, Error> {
        self.remote.trial_balance(tenant).await
    }

    async fn quote_fee(&self, amount: Money) -> Result<Money, Error> {
        self.remote.quote_fee(amount).await
    }

    async fn capture(&self, capture: &Capture, _: Epoch) -> Result<Payment, Error> {
        order_of(&self.orders, &capture.tenant, capture.payment).await?;
        known(self.remote.capture(capture, Epoch::UNKNOWN).await)
    }

    async fn void(&self, void: &Void, _: Epoch) -> Result<Payment, Error> {
        order_of(&self.orders, &void.tenant, void.payment).await?;
        known(self.remote.void(void, Epoch::UNKNOWN).await)
    }

    async fn refund(&self, refund: &Refund, _: Epoch) -> Result<Payment, Error> {
        order_of(&self.orders, &refund.tenant, refund.payment).await?;
        known(self.remote.refund(refund, Epoch::UNKNOWN).await)
    }

    /// A payment that the service does not know was never ordered here, or its first event is on its way.
    async fn deliver(&self, notice: &Notice, _: Epoch) -> Result<Delivered, Error> {
        match self.remote.deliver(notice, Epoch::UNKNOWN).await {
            Err(Error::NotFound) => Ok(Delivered::Early),
            answer => answer,
        }
    }
}

impl RetiredDomain {
    /// Orders name every payment.
    pub fn new(orders: Orders) -> Self {
        Self(orders)
    }
}

#[async_trait]
impl strangler::Movable for RetiredDomain {
    async fn begin(&self) -> Result<PgTransaction<'static>, BoxError> {
        gone()
    }

    async fn pinned(&self, _: &mut PgTransaction<'_>, _: &[String]) -> Result<Vec<Pinned>, BoxError> {
        gone()
    }

    async fn give(
        &self,
        _: &mut PgTransaction<'_>,
        _: &[(String, strangler::Epoch)],
    ) -> Result<(), BoxError> {
        gone()
    }

    async fn gained(&self, _: &mut PgTransaction<'_>, _: &[String]) -> Result<(), BoxError> {
        gone()
    }

    async fn known(&self, _: &mut PgTransaction<'_>, _: &[String]) -> Result<Vec<String>, BoxError> {
        gone()
    }

    async fn snapshot(&self, _: &mut PgTransaction<'_>, _: &[String]) -> Result<Vec<Pinned>, BoxError> {
        gone()
    }

    async fn copies(&self, _: Option<&str>, _: Option<&str>, _: i64) -> Result<Vec<KeyCopy>, BoxError> {
        gone()
    }
}

#[async_trait]
impl strangler::Domain for RetiredDomain {
    async fn keys(&self, after: Option<&str>, limit: i64) -> Result<Vec<Key>, BoxError> {
        keys(&self.0, after, limit).await
    }

    async fn versions(&self, _: i64) -> Result<Vec<(String, i64)>, BoxError> {
        gone()
    }

    async fn reverse_feed(&self, _: &[String]) -> Result<Applied, BoxError> {
        gone()
    }

    async fn broken(&self) -> Result<Option<String>, BoxError> {
        gone()
    }
}

/// The answer to whatever needs the copy that was retired.
fn gone<T>() -> Result<T, BoxError> {
    Err("this program has no half of payments any more: ask the service".into())
}
