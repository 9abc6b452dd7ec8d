//! What Stripe answers: objects, lists and errors, and which of them are definite.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::StatusCode;
use serde::Deserialize;
use uuid::Uuid;

use super::amount::from_stripe;
use crate::provider::{Failure, Object, ObjectStatus, RefundObject, RefundStatus};

/// The longest pause that the provider may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);
/// The pause after a request that was turned away without a word about when to come again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// An answer as it came.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// `Idempotent-Replayed`: it was kept under the key.
    pub(super) replayed: bool,
    /// `Retry-After`, in seconds; dates are not used by the provider.
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// The object, or what went wrong. A missing object is not definite: absence decides nothing.
    pub(super) fn read<T: for<'a> Deserialize<'a>>(&self) -> Result<T, Failure> {
        if !self.status.is_success() {
            return Err(self.failure());
        }
        serde_json::from_slice(&self.body).map_err(|error| self.unreadable(&error))
    }

    /// Whether the provider is at work: whatever it says, it said it itself and now.
    pub(super) fn is_sound(&self) -> bool {
        !self.status.is_server_error() || self.replayed
    }

    fn failure(&self) -> Failure {
        let error = match serde_json::from_slice::<ErrorBody>(&self.body) {
            Ok(body) => body.error,
            Err(error) => return self.unreadable(&error),
        };
        let why = format!("status {}, {}: {}", self.status.as_u16(), error.kind, error.message());
        match (self.status.as_u16(), error.kind.as_str()) {
            (402, "card_error") => error.declined().unwrap_or(Failure::Unknown(why)),
            (400 | 402, "invalid_request_error") => {
                Failure::Refused { code: error.code(), message: error.message() }
            }
            (429, _) => Failure::NotNow { why, after: self.pause() },
            (500.., _) if self.replayed => Failure::Kept(why),
            (_, _) => Failure::Unknown(why),
        }
    }

    fn pause(&self) -> Duration {
        self.retry_after.unwrap_or(RETRY_AFTER).min(RETRY_AFTER_MAX)
    }

    fn unreadable(&self, error: &serde_json::Error) -> Failure {
        let why = format!("status {} with a body that can't be read: {error}", self.status.as_u16());
        match self.status.as_u16() {
            429 => Failure::NotNow { why, after: self.pause() },
            500.. if self.replayed => Failure::Kept(why),
            _ => Failure::Unknown(why),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct PaymentIntent {
    id: String,
    status: String,
    currency: String,
    #[serde(default)]
    amount_received: i64,
    #[serde(default)]
    last_payment_error: Option<ErrorObject>,
}

#[derive(Deserialize)]
pub(super) struct Refund {
    id: String,
    amount: i64,
    currency: String,
    status: Option<String>,
    metadata: Option<BTreeMap<String, String>>,
}

/// A list or a search result.
#[derive(Deserialize)]
pub(super) struct List<T> {
    pub(super) data: Vec<T>,
    pub(super) has_more: bool,
}

#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorObject,
}

#[derive(Deserialize)]
struct ErrorObject {
    #[serde(rename = "type", default)]
    kind: String,
    code: Option<String>,
    decline_code: Option<String>,
    message: Option<String>,
    payment_intent: Option<ErrorIntent>,
}

/// The payment intent inside an error.
#[derive(Deserialize)]
struct ErrorIntent {
    status: String,
}

impl ErrorObject {
    fn code(&self) -> String {
        let code = self.decline_code.as_ref().or(self.code.as_ref()).unwrap_or(&self.kind);
        code.clone()
    }

    fn message(&self) -> String {
        self.message.clone().unwrap_or_default()
    }

    /// A decline, unless its own payment intent says that something else is going on. One that stays authorized has refused its
    /// capture.
    fn declined(&self) -> Option<Failure> {
        let (code, status) = (self.code(), self.payment_intent.as_ref().map(|it| it.status.as_str()));
        match status {
            None | Some("requires_payment_method" | "canceled") => Some(Failure::Declined { code }),
            Some("requires_capture") => Some(Failure::Refused { code, message: self.message() }),
            Some(_) => None,
        }
    }
}

impl TryFrom<PaymentIntent> for Object {
    type Error = Failure;

    fn try_from(intent: PaymentIntent) -> Result<Self, Failure> {
        let status = match intent.status.as_str() {
            "requires_confirmation" => ObjectStatus::RequiresConfirmation,
            "requires_payment_method" => ObjectStatus::RequiresPaymentMethod,
            "requires_action" => ObjectStatus::RequiresAction,
            "processing" => ObjectStatus::Processing,
            "requires_capture" => ObjectStatus::RequiresCapture,
            "succeeded" => ObjectStatus::Succeeded,
            "canceled" => ObjectStatus::Canceled,
            other => return Err(Failure::Unknown(format!("payment intent status {other:?}"))),
        };
        let received_minor = from_stripe(intent.amount_received, &intent.currency)?.minor;
        let decline_code = intent.last_payment_error.map(|error| error.code()).unwrap_or_default();
        Ok(Object { id: named(intent.id)?, status, received_minor, decline_code })
    }
}

impl TryFrom<Refund> for RefundObject {
    type Error = Failure;

    fn try_from(refund: Refund) -> Result<Self, Failure> {
        let status = match refund.status.as_deref() {
            Some("succeeded") => RefundStatus::Succeeded,
            // Stripe leaves it out for some methods until it knows.
            Some("pending") | None => RefundStatus::Pending,
            Some("requires_action") => RefundStatus::RequiresAction,
            Some("failed") => RefundStatus::Failed,
            Some("canceled") => RefundStatus::Canceled,
            Some(other) => return Err(Failure::Unknown(format!("refund status {other:?}"))),
        };
        let command = refund.metadata.unwrap_or_default().remove("command_id");
        Ok(RefundObject {
            id: named(refund.id)?,
            command: command.and_then(|id| Uuid::parse_str(&id).ok()),
            amount_minor: from_stripe(refund.amount, &refund.currency)?.minor,
            status,
        })
    }
}

/// An id, which becomes a part of a path.
fn named(id: String) -> Result<String, Failure> {
    let plain = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if plain && (1..=255).contains(&id.len()) {
        return Ok(id);
    }
    Err(Failure::Unknown("an object's id that is none".to_owned()))
}

#[cfg(test)]
mod tests;
