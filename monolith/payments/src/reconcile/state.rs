//! Authorized payments and what became of them at the provider: pure.

use proto::PaymentId;
use time::OffsetDateTime;

use super::found::{DifferenceKind, Found, state_subject};
use crate::provider::ObjectStatus;
use crate::{Status, Tenant};

/// Whether the payment intent of an authorized payment still is what was authorized. `None`: not decided, at the provider.
pub(crate) fn still_authorized(object: ObjectStatus) -> Option<bool> {
    match object {
        ObjectStatus::RequiresCapture => Some(true),
        ObjectStatus::Processing => None,
        ObjectStatus::RequiresConfirmation
        | ObjectStatus::RequiresPaymentMethod
        | ObjectStatus::RequiresAction
        | ObjectStatus::Succeeded
        | ObjectStatus::Canceled => Some(false),
    }
}

/// An authorized payment whose payment intent is something else.
pub(crate) fn state_differs(
    payment: (PaymentId, Tenant),
    object: &str,
    status: ObjectStatus,
    now: OffsetDateTime,
) -> Found {
    Found {
        subject: state_subject(object),
        kind: DifferenceKind::State,
        payment: Some(payment),
        object: object.to_owned(),
        here_minor: None,
        there_minor: None,
        currency: None,
        detail: format!("{} here, {} there", Status::Authorized, word(status)),
        at: now,
    }
}

/// Stripe's word.
fn word(status: ObjectStatus) -> &'static str {
    match status {
        ObjectStatus::RequiresConfirmation => "requires_confirmation",
        ObjectStatus::RequiresPaymentMethod => "requires_payment_method",
        ObjectStatus::RequiresAction => "requires_action",
        ObjectStatus::Processing => "processing",
        ObjectStatus::RequiresCapture => "requires_capture",
        ObjectStatus::Succeeded => "succeeded",
        ObjectStatus::Canceled => "canceled",
    }
}
