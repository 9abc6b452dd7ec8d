//! A payment intent: its state as the journal keeps it, and as the API shows it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

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
    /// The last confirmation was declined.
    pub(crate) declined: bool,
    /// A confirmation was lost on purpose; see [`crate::script::Script::LostOnce`].
    pub(crate) lost_once: bool,
    /// A charge that is still to come; see [`crate::script::Script::ChargedLate`].
    pub(crate) late: Option<Late>,
}

/// A charge that happens later, under the key that asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Late {
    /// When, in milliseconds since 1970.
    pub(crate) due_ms: i64,
    /// When its key was first used, in milliseconds since 1970.
    pub(crate) since_ms: i64,
    pub(crate) key: Option<String>,
    pub(crate) fingerprint: String,
    pub(crate) metadata: BTreeMap<String, String>,
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
            "last_payment_error": self.declined.then(card_error),
            "latest_charge": self.latest_charge,
            "livemode": false,
            "metadata": self.metadata,
            "payment_method": self.payment_method,
            "status": self.status,
        })
    }

    /// The body of a declined confirmation.
    pub(crate) fn declined_body(&self) -> Value {
        let mut error = card_error();
        error["payment_intent"] = self.object();
        json!({ "error": error })
    }

    /// What a refund may still take.
    pub(crate) fn refundable(&self) -> i64 {
        self.amount_received.saturating_sub(self.amount_refunded)
    }
}

fn card_error() -> Value {
    json!({
        "type": "card_error",
        "code": "card_declined",
        "decline_code": "generic_decline",
        "message": "Your card was declined.",
    })
}
