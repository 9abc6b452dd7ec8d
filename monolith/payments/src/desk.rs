//! What HTTP and gRPC ask of payments.

use async_trait::async_trait;
use proto::{Money, PaymentId};

use crate::{Actor, Balance, Delivered, Epoch, Error, IdempotencyKey, Notice, Payment, Tenant};

/// Captures an authorized payment, once.
#[derive(Debug, Clone)]
pub struct Capture {
    /// Who asks.
    pub tenant: Tenant,
    /// Which payment.
    pub payment: PaymentId,
    /// Minor units; `None`: all that is authorized. What is not captured is released.
    pub amount_minor: Option<i64>,
    /// Names this command.
    pub key: IdempotencyKey,
    /// Which person or program asks; for the audit.
    pub by: Actor,
    /// Why, for the audit: 1 to 255 characters. Neither is part of what a key stands for.
    pub reason: Option<String>,
}

/// Releases an authorized payment.
#[derive(Debug, Clone)]
pub struct Void {
    /// Who asks.
    pub tenant: Tenant,
    /// Which payment.
    pub payment: PaymentId,
    /// Names this command.
    pub key: IdempotencyKey,
    /// Which person or program asks; for the audit.
    pub by: Actor,
    /// Why, for the audit: 1 to 255 characters. Neither is part of what a key stands for.
    pub reason: Option<String>,
}

/// Returns captured money.
#[derive(Debug, Clone)]
pub struct Refund {
    /// Who asks.
    pub tenant: Tenant,
    /// Which payment.
    pub payment: PaymentId,
    /// Minor units; `None`: all that is captured and not yet refunded.
    pub amount_minor: Option<i64>,
    /// Names this command.
    pub key: IdempotencyKey,
    /// Which person or program asks; for the audit.
    pub by: Actor,
    /// Why, for the audit: 1 to 255 characters. Neither is part of what a key stands for.
    pub reason: Option<String>,
}

/// A part of a list, newest first.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// The most payments to return: 1 to 200.
    pub size: i64,
    /// The last payment of the page before; `None` for the first page.
    pub after: Option<PaymentId>,
}

impl Page {
    /// The largest page.
    pub const SIZE_MAX: i64 = 200;
    /// The usual page.
    pub const SIZE_DEFAULT: i64 = 50;
}

/// The counter of a home, or of both behind one.
///
/// Commands may be repeated under their key: a finished one gives the same answer, one in flight [`Error::InFlight`], the key
/// of another request [`Error::KeyReused`]. `epoch` is the owner's epoch as the caller knows it, 0 if it does not.
#[async_trait]
pub trait Desk: Send + Sync {
    /// One payment. [`Error::NotFound`] also for another tenant's.
    async fn find(&self, tenant: &Tenant, id: PaymentId) -> Result<Payment, Error>;

    /// One payment, from a copy that follows its owner, at this version or a later one. [`Error::NotFound`] as above;
    /// [`Error::Behind`] for an older copy; [`Error::Parked`] for one in front of which events wait.
    async fn find_copy(&self, tenant: &Tenant, id: PaymentId, at_least: i64) -> Result<Payment, Error> {
        let payment = self.find(tenant, id).await?;
        if payment.version < at_least {
            return Err(Error::Behind { here: payment.version, head: at_least });
        }
        Ok(payment)
    }

    /// The tenant's payments, newest first.
    async fn list(&self, tenant: &Tenant, page: Page) -> Result<Vec<Payment>, Error>;

    /// What is booked for the tenant, by currency and account; see [`crate::balances`]. Its own payments and replicas.
    async fn trial_balance(&self, tenant: &Tenant) -> Result<Vec<Balance>, Error>;

    /// What capturing this amount would cost the merchant; see [`crate::fee`].
    async fn quote_fee(&self, amount: Money) -> Result<Money, Error>;

    /// Captures.
    async fn capture(&self, capture: &Capture, epoch: Epoch) -> Result<Payment, Error>;

    /// Voids.
    async fn void(&self, void: &Void, epoch: Epoch) -> Result<Payment, Error>;

    /// Refunds.
    async fn refund(&self, refund: &Refund, epoch: Epoch) -> Result<Payment, Error>;

    /// Takes what the provider tells of a payment. It moves no money: what is open is looked at now, and what the books don't
    /// have is said. May be repeated; an error means that it was not taken.
    async fn deliver(&self, notice: &Notice, epoch: Epoch) -> Result<Delivered, Error>;
}
