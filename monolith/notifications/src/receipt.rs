//! Receipts.

use outbox::{BoxError, Meta};
use proto::Money;
use proto::events::PaymentState;
use uuid::Uuid;

/// A receipt to send.
#[derive(Debug)]
pub(crate) struct Receipt {
    /// The id of the event it tells of.
    pub(crate) id: Uuid,
    pub(crate) tenant: String,
    pub(crate) order: Uuid,
    pub(crate) payment: Uuid,
    pub(crate) subject: Subject,
    pub(crate) amount: Money,
}

/// What a receipt tells of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Subject {
    Payment,
    Refund,
}

impl Subject {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Payment => "payment",
            Self::Refund => "refund",
        }
    }
}

impl Receipt {
    pub(crate) fn new(
        meta: &Meta,
        state: &PaymentState,
        subject: Subject,
        minor: i64,
    ) -> Result<Self, BoxError> {
        let currency = &state.amount.as_ref().ok_or("the state has no amount")?.currency;
        Ok(Self {
            id: meta.id,
            tenant: state.tenant.clone(),
            order: state.order_id.parse()?,
            payment: state.payment_id.parse()?,
            subject,
            amount: Money::new(minor, currency.parse()?),
        })
    }
}
