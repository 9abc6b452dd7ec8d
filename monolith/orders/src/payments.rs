//! What orders need of payments.

use async_trait::async_trait;
use outbox::BoxError;
use proto::{Money, OrderId, PaymentId};
use sqlx::postgres::PgTransaction;

use crate::CaptureMethod;

/// A payment that an order asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentRequest {
    /// Whose it is.
    pub tenant: String,
    /// The order it pays.
    pub order: OrderId,
    /// How much.
    pub amount: Money,
    /// When the money is taken.
    pub capture_method: CaptureMethod,
    /// The provider's token for the card or account.
    pub payment_method: String,
}

/// Takes requests for payments, wherever they are made.
#[async_trait]
pub trait Payments: Send + Sync {
    /// Opens a payment in the caller's transaction: it exists if, and only if, that commits. Called before any row of the
    /// order is locked. Does no I/O but on `tx`.
    ///
    /// # Errors
    /// Any; the caller rolls back. A passing fault of the database should be in the chain of sources as it came.
    async fn request(
        &self,
        tx: &mut PgTransaction<'_>,
        request: &PaymentRequest,
    ) -> Result<PaymentId, BoxError>;
}
