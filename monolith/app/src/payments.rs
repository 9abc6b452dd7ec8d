//! The extraction of payments: the only place that knows both homes.
//!
//! A payment is born by [`RequestPayments`], inside the transaction of its order. What else the source does is in `local.rs`; without the
//! feature `local-payments` it is what `removed.rs` says.

#[cfg(feature = "local-payments")]
mod local;
#[cfg(not(feature = "local-payments"))]
mod removed;

use ::payments::{Error, Payment, Status, Tenant};
use async_trait::async_trait;
use orders::{Order, Orders, PaymentRequest};
use outbox::BoxError;
use proto::{PaymentId, events};
use sqlx::postgres::PgTransaction;
use strangler::{Key, Owners};
use time::OffsetDateTime;

#[cfg(feature = "local-payments")]
pub use self::local::{AtSource, MovingPayments, PaymentsDomain};
#[cfg(not(feature = "local-payments"))]
pub use self::removed::{RetiredDomain, ServicePayments};

/// Opens payments for orders.
#[derive(Debug, Clone)]
pub struct RequestPayments {
    owners: Owners,
}

impl RequestPayments {
    /// The role of the owners' pool needs to assign owners and to publish.
    pub fn new(owners: Owners) -> Self {
        Self { owners }
    }
}

#[async_trait]
impl orders::Payments for RequestPayments {
    /// Decides and stores who owns the new payment, then opens its stream. Until the order's transaction ends the
    /// migration's policy can't change.
    async fn request(
        &self,
        tx: &mut PgTransaction<'_>,
        request: &PaymentRequest,
    ) -> Result<PaymentId, BoxError> {
        let payment = PaymentId::new();
        let owner = self.owners.assign(tx, &request.tenant, &payment.to_string()).await?;
        let version = outbox::publish(tx, &requested(payment, request, &owner)?).await?;
        if version != 1 {
            return Err(format!("the stream of the new payment {payment} begins at version {version}").into());
        }
        Ok(payment)
    }
}

fn requested(
    payment: PaymentId,
    request: &PaymentRequest,
    owner: &strangler::Ownership,
) -> Result<events::PaymentRequested, BoxError> {
    let capture_method = match request.capture_method {
        orders::CaptureMethod::Automatic => events::CaptureMethod::Automatic,
        orders::CaptureMethod::Manual => events::CaptureMethod::Manual,
    };
    let now_ms = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
    Ok(events::PaymentRequested {
        payment_id: payment.to_string(),
        tenant: request.tenant.clone(),
        order_id: request.order.to_string(),
        amount: Some(request.amount.into()),
        capture_method: capture_method.into(),
        payment_method: request.payment_method.clone(),
        owner: owner.home.name().to_owned(),
        epoch: owner.epoch.get(),
        requested_at_ms: i64::try_from(now_ms)?,
    })
}

/// The order of a payment. Every payment has one, so this tells a payment that does not exist, or is another tenant's,
/// from one that a home does not know yet.
async fn order_of(orders: &Orders, tenant: &Tenant, payment: PaymentId) -> Result<Order, Error> {
    orders.find_by_payment(tenant.as_str(), payment).await.map_err(|error| match error {
        orders::Error::NotFound => Error::NotFound,
        orders::Error::Database(error) => Error::Database(error),
        error => Error::Unavailable(error.to_string()),
    })
}

/// The payment exists, so a home that does not know it has not applied its first event yet.
fn known(answer: Result<Payment, Error>) -> Result<Payment, Error> {
    match answer {
        Err(Error::NotFound) => Err(Error::Busy("its owner has not got it yet")),
        answer => answer,
    }
}

/// A payment as its order asked for it.
fn not_applied(tenant: Tenant, order: Order) -> Payment {
    Payment {
        id: order.payment,
        tenant,
        order: order.id,
        amount: order.total,
        capture_method: match order.capture_method {
            orders::CaptureMethod::Automatic => ::payments::CaptureMethod::Automatic,
            orders::CaptureMethod::Manual => ::payments::CaptureMethod::Manual,
        },
        payment_method: order.payment_method,
        status: Status::Requested,
        authorized_minor: 0,
        captured_minor: 0,
        refunded_minor: 0,
        provider_ref: None,
        version: 1,
        requested_at: order.placed_at,
        outcome_pending: false,
    }
}

/// All keys of the migration, from the orders: they name payments whose first event is not applied yet, too.
async fn keys(orders: &Orders, after: Option<&str>, limit: i64) -> Result<Vec<Key>, BoxError> {
    let after = after.map(str::parse).transpose()?;
    let payments = orders.payments(after, limit).await?;
    Ok(payments.into_iter().map(|(tenant, id)| Key { tenant, key: id.to_string() }).collect())
}
