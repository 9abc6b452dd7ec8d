//! What a webhook tells, and to whom.

use async_trait::async_trait;
use outbox::BoxError;
use proto::PaymentId;
use time::OffsetDateTime;
use uuid::Uuid;

/// What the provider told of a payment. A hint: it says where to look, and never changes money by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The provider's id of the event.
    pub id: String,
    /// The provider's word for what happened: `payment_intent.succeeded`.
    pub kind: String,
    /// The provider's id of the payment intent or refund.
    pub object: String,
    /// How that object stood, in the provider's words; empty when it was not said.
    pub status: String,
    /// The payment that the object is for.
    pub payment: PaymentId,
    /// Whose payment it is.
    pub tenant: String,
    /// The command that made or last moved the object.
    pub command: Option<Uuid>,
    /// When it happened, by the provider's clock; whole seconds.
    pub happened_at: OffsetDateTime,
}

/// What the payment's owner says to a notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivered {
    /// It has taken it: the books agree, or what is open is looked at now.
    Applied,
    /// The books don't have what it tells, and nothing is open that could explain it. Says what.
    Surprise(String),
    /// It does not know the payment, or not yet.
    Early,
}

/// What webhooks need of payments.
#[async_trait]
pub trait Payments: Send + Sync + 'static {
    /// Gives a notice to the owner of its payment, whichever home that is. May be repeated.
    ///
    /// # Errors
    /// Nobody has taken it: the owner changes, or can't be asked now.
    async fn deliver(&self, notice: &Notice) -> Result<Delivered, BoxError>;
}
