//! A payment intent: its state as the journal keeps it, and as the API shows it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::failure::doc_url;

/// The life of a payment intent, in Stripe's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    RequiresPaymentMethod,
    RequiresConfirmation,
    Processing,
    RequiresCapture,
    Succeeded,
    Canceled,
}

impl Status {
    /// The word that the API has for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::RequiresPaymentMethod => "requires_payment_method",
            Self::RequiresConfirmation => "requires_confirmation",
            Self::Processing => "processing",
            Self::RequiresCapture => "requires_capture",
            Self::Succeeded => "succeeded",
            Self::Canceled => "canceled",
        }
    }
}

/// Whether a confirmation takes the money at once or only reserves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CaptureMethod {
    Automatic,
    Manual,
}

/// A payment intent. Amounts are minor units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Intent {
    pub(crate) id: String,
    pub(crate) amount: i64,
    pub(crate) amount_capturable: i64,
    pub(crate) amount_received: i64,
    pub(crate) amount_refunded: i64,
    pub(crate) currency: String,
    pub(crate) capture_method: CaptureMethod,
    pub(crate) payment_method: Option<String>,
    pub(crate) status: Status,
    pub(crate) latest_charge: Option<String>,
    pub(crate) metadata: BTreeMap<String, String>,
    /// Seconds since 1970.
    pub(crate) created: i64,
    pub(crate) canceled_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cancellation_reason: Option<String>,
    /// The attempt that was refused, if the last one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failed_charge: Option<String>,
}

impl Intent {
    /// The object as the API shows it.
    pub(crate) fn object(&self) -> Value {
        json!({
            "id": self.id,
            "object": "payment_intent",
            "amount": self.amount,
            "amount_capturable": self.amount_capturable,
            "amount_received": self.amount_received,
            "canceled_at": self.canceled_at,
            "cancellation_reason": self.cancellation_reason,
            "capture_method": self.capture_method,
            "created": self.created,
            "currency": self.currency,
            "last_payment_error": self.last_payment_error(),
            "latest_charge": self.latest_charge,
            "livemode": false,
            "metadata": self.metadata,
            "payment_method": self.payment_method,
            "status": self.status,
        })
    }

    /// The body of a declined confirmation.
    pub(crate) fn declined_body(&self) -> Value {
        let mut error = self.last_payment_error();
        error["payment_intent"] = self.object();
        json!({ "error": error })
    }

    /// What a refund may still take.
    pub(crate) fn refundable(&self) -> i64 {
        self.amount_received.saturating_sub(self.amount_refunded)
    }

    /// Why the last confirmation was refused; null when it was not.
    fn last_payment_error(&self) -> Value {
        let Some(charge) = &self.failed_charge else { return Value::Null };
        json!({
            "type": "card_error",
            "charge": charge,
            "code": "card_declined",
            "decline_code": "generic_decline",
            "doc_url": doc_url("card_declined"),
            "message": "Your card was declined.",
            "payment_method": { "id": self.payment_method, "object": "payment_method", "type": "card" },
        })
    }
}
