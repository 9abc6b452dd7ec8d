//! Who moves the money.

mod circuit;
mod memory;
mod settlement;
mod stripe;

use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use proto::{Money, PaymentId};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{CaptureMethod, Operation, Tenant};

pub(crate) use circuit::Lamp;
pub use memory::{Call, Fault, Memory, Movement};
pub use settlement::{LineKind, SettlementLine, SettlementPage, UnreadLine};
pub use stripe::{Stripe, StripeConfig};

/// How long after its first use a key keeps a repeated request from being done twice. The provider keeps keys for 24 hours; an
/// hour is left for clocks and queues. It matters for refunds: a payment intent moves money once under whatever key.
pub(crate) const REPEAT_WITHIN: Duration = Duration::from_secs(23 * 3600);

/// A payment service provider with Stripe's objects and idempotency keys: the same request under the same key is done once and
/// answered alike.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// Makes a payment intent that moves nothing yet.
    async fn create(&self, key: &str, intent: &NewIntent) -> Result<Object, Failure>;

    /// Charges or reserves.
    async fn confirm(&self, key: &str, object: &str) -> Result<Object, Failure>;

    /// Takes reserved money and releases the rest.
    async fn capture(&self, key: &str, capture: &Move) -> Result<Object, Failure>;

    /// Releases reserved money.
    async fn cancel(&self, key: &str, object: &str) -> Result<Object, Failure>;

    /// Reads a payment intent.
    async fn retrieve(&self, object: &str) -> Result<Object, Failure>;

    /// The payment intents that were made for a command, by their metadata. The provider's search may lag behind by minutes, so
    /// one that is missing decides nothing.
    async fn search(&self, command: Uuid) -> Result<Vec<Object>, Failure>;

    /// Returns taken money.
    async fn refund(&self, key: &str, refund: &Move) -> Result<RefundObject, Failure>;

    /// All refunds of a payment intent, whoever asked for them, newest first.
    async fn refunds(&self, object: &str) -> Result<Vec<RefundObject>, Failure>;

    /// Reads a page of the settlement list: the lines of a time, whole seconds, newest first; `after` is the last page's
    /// [`SettlementPage::next`]. `None`: there is no list for this home, since no payment is its own. That is no empty list.
    async fn settlements(
        &self,
        within: Range<OffsetDateTime>,
        after: Option<&str>,
    ) -> Result<Option<SettlementPage>, Failure>;
}

/// What is written on the provider's objects, so that its journal can be compared with ours.
#[derive(Debug, Clone)]
pub struct Tag {
    /// Whose.
    pub tenant: Tenant,
    /// For which payment.
    pub payment: PaymentId,
    /// By which operation.
    pub operation: Operation,
    /// By which command.
    pub command: Uuid,
}

/// A payment intent to be made.
#[derive(Debug, Clone)]
pub struct NewIntent {
    /// How much.
    pub amount: Money,
    /// When the money is taken.
    pub capture_method: CaptureMethod,
    /// The provider's token for the card or account.
    pub payment_method: String,
    /// Who asks.
    pub tag: Tag,
}

/// Money to be taken or returned.
#[derive(Debug, Clone)]
pub struct Move {
    /// By which payment intent.
    pub object: String,
    /// How much.
    pub amount: Money,
    /// Who asks.
    pub tag: Tag,
}

/// A payment intent as the provider sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its id.
    pub id: String,
    /// How far it is.
    pub status: ObjectStatus,
    /// Minor units taken.
    pub received_minor: i64,
    /// Why the last confirmation was declined; empty if none was.
    pub decline_code: String,
}

/// How far a payment intent is, in Stripe's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectStatus {
    /// Made, nothing moved.
    RequiresConfirmation,
    /// Declined, or without a card.
    RequiresPaymentMethod,
    /// The card's owner must do something.
    RequiresAction,
    /// Not decided yet.
    Processing,
    /// Reserved.
    RequiresCapture,
    /// Taken.
    Succeeded,
    /// Released.
    Canceled,
}

/// A refund as the provider sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundObject {
    /// Its id.
    pub id: String,
    /// By which command of ours; `None` for one that somebody else made.
    pub command: Option<Uuid>,
    /// How much.
    pub amount_minor: i64,
    /// How far it is.
    pub status: RefundStatus,
}

/// How far a refund is, in Stripe's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefundStatus {
    /// Accepted; the money is on its way. It may still fail days later.
    Pending,
    /// Someone must do something first.
    RequiresAction,
    /// The money arrived.
    Succeeded,
    /// The money came back to the merchant.
    Failed,
    /// Called off before any money moved.
    Canceled,
}

/// A request that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The card was declined: a definite answer.
    #[error("declined: {code}")]
    Declined {
        /// The provider's code.
        code: String,
    },
    /// The provider refuses this request and did nothing because of it: a definite answer to this request, though an earlier
    /// one may have had an effect.
    #[error("refused: {code}: {message}")]
    Refused {
        /// The provider's code.
        code: String,
        /// In its words.
        message: String,
    },
    /// No definite answer: none at all, one of a fault, or one that something is still going on. It may have had its effect.
    #[error("no definite answer: {0}")]
    Unknown(String),
    /// A fault that the provider keeps as the answer under this key, so the same request is answered with it for ever. The
    /// request is over; it may have had its effect.
    #[error("a fault is kept under the key: {0}")]
    Kept(String),
    /// This very request was not done: it was not sent, or turned away as one too many. An earlier one may have had its effect.
    #[error("not now: {why}")]
    NotNow {
        /// In words.
        why: String,
        /// Ask again after this pause at the earliest.
        after: Duration,
    },
}

impl Failure {
    /// Its stable word, for numbers.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Failure::Declined { .. } => "declined",
            Failure::Refused { .. } => "refused",
            Failure::Unknown(_) => "unknown",
            Failure::Kept(_) => "kept",
            Failure::NotNow { .. } => "turned_away",
        }
    }
}
