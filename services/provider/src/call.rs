//! What a client asks for, read from its form.

use std::collections::BTreeMap;

use proto::Currency;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::form::Form;
use crate::intent::CaptureMethod;
use crate::script::{Method, Operation};

/// Why a payment was given up, in Stripe's words.
const CANCELLATION_REASONS: [&str; 4] = ["duplicate", "fraudulent", "requested_by_customer", "abandoned"];

/// Why money went back.
const REFUND_REASONS: [&str; 3] = ["duplicate", "fraudulent", "requested_by_customer"];

/// A request that changes something.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Call {
    /// The client's idempotency key.
    pub(crate) key: Option<String>,
    /// What the key is bound to.
    pub(crate) fingerprint: String,
    /// When it came, in milliseconds since 1970.
    pub(crate) since_ms: i64,
    /// The request's own metadata.
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Command {
    Create { amount: i64, currency: String, capture_method: CaptureMethod, payment_method: Option<String> },
    Confirm { intent: String, payment_method: Option<String> },
    Capture { intent: String, amount: Option<i64> },
    Cancel { intent: String, reason: Option<String> },
    Refund { intent: String, amount: Option<i64>, reason: Option<String> },
}

impl Command {
    pub(crate) fn create(form: &mut Form) -> Result<Self, Failure> {
        let amount = form.amount("amount")?.ok_or_else(|| crate::form::missing("amount"))?;
        let currency = currency(&form.required("currency")?)?;
        let capture_method = match form.choice("capture_method", &["automatic", "manual"])? {
            "manual" => CaptureMethod::Manual,
            _ => CaptureMethod::Automatic,
        };
        // Creating and confirming are two steps here, so that an unanswered charge can always be asked for.
        form.choice("confirm", &["false"])?;
        let payment_method = payment_method(form)?;
        Ok(Self::Create { amount, currency, capture_method, payment_method })
    }

    pub(crate) fn confirm(intent: String, form: &mut Form) -> Result<Self, Failure> {
        Ok(Self::Confirm { intent, payment_method: payment_method(form)? })
    }

    pub(crate) fn capture(intent: String, form: &mut Form) -> Result<Self, Failure> {
        Ok(Self::Capture { intent, amount: form.amount("amount_to_capture")? })
    }

    pub(crate) fn cancel(intent: String, form: &mut Form) -> Result<Self, Failure> {
        let reason = form.one_of("cancellation_reason", &CANCELLATION_REASONS)?;
        Ok(Self::Cancel { intent, reason })
    }

    pub(crate) fn refund(form: &mut Form) -> Result<Self, Failure> {
        let intent = form.required("payment_intent")?;
        let reason = form.one_of("reason", &REFUND_REASONS)?;
        Ok(Self::Refund { intent, amount: form.amount("amount")?, reason })
    }
}

impl Command {
    pub(crate) fn operation(&self) -> Operation {
        match self {
            Self::Create { .. } => Operation::Create,
            Self::Confirm { .. } => Operation::Confirm,
            Self::Capture { .. } => Operation::Capture,
            Self::Cancel { .. } => Operation::Cancel,
            Self::Refund { .. } => Operation::Refund,
        }
    }

    /// The intent that it is about, if there is one before it.
    pub(crate) fn intent(&self) -> Option<&str> {
        match self {
            Self::Create { .. } => None,
            Self::Confirm { intent, .. }
            | Self::Capture { intent, .. }
            | Self::Cancel { intent, .. }
            | Self::Refund { intent, .. } => Some(intent),
        }
    }

    /// The payment method that it brings.
    pub(crate) fn payment_method(&self) -> Option<&str> {
        match self {
            Self::Create { payment_method, .. } | Self::Confirm { payment_method, .. } => {
                payment_method.as_deref()
            }
            Self::Capture { .. } | Self::Cancel { .. } | Self::Refund { .. } => None,
        }
    }
}

fn payment_method(form: &mut Form) -> Result<Option<String>, Failure> {
    let method = form.text("payment_method");
    method.as_deref().map(Method::of).transpose()?;
    Ok(method)
}

/// Stripe writes currencies in lower case and takes both.
pub(crate) fn currency(text: &str) -> Result<String, Failure> {
    let wrong = || Failure::param("parameter_invalid", "currency", format!("Invalid currency: {text}"));
    let currency: Currency = text.to_ascii_uppercase().parse().map_err(|_| wrong())?;
    Ok(currency.code().to_ascii_lowercase())
}
