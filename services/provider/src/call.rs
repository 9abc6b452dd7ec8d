//! What a client asks for, read from its form.

use std::collections::BTreeMap;

use proto::Currency;

use crate::failure::Failure;
use crate::form::Form;
use crate::intent::CaptureMethod;
use crate::script::Script;

/// Why a payment was given up, in Stripe's words.
const CANCELLATION_REASONS: [&str; 4] = ["duplicate", "fraudulent", "requested_by_customer", "abandoned"];

/// Why money went back.
const REFUND_REASONS: [&str; 3] = ["duplicate", "fraudulent", "requested_by_customer"];

/// A request that changes something.
#[derive(Debug, Clone)]
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

#[derive(Debug, Clone)]
pub(crate) enum Command {
    Create { amount: i64, currency: Currency, capture_method: CaptureMethod, payment_method: Option<String> },
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

fn payment_method(form: &mut Form) -> Result<Option<String>, Failure> {
    let method = form.text("payment_method");
    method.as_deref().map(Script::of).transpose()?;
    Ok(method)
}

/// Stripe writes currencies in lower case and takes both.
fn currency(text: &str) -> Result<Currency, Failure> {
    let wrong = || Failure::param("parameter_invalid", "currency", format!("Invalid currency: {text}"));
    text.to_ascii_uppercase().parse().map_err(|_| wrong())
}
