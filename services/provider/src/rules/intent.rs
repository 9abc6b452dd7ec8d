//! The life of a payment intent.

use axum::http::StatusCode;

use super::{Change, Reply, movement, new_id};
use crate::call::{Call, Command};
use crate::clock::now;
use crate::event::Topic;
use crate::failure::Failure;
use crate::form::missing;
use crate::intent::{CaptureMethod, Intent, Status};
use crate::line::Kind;

pub(crate) fn create(call: &Call) -> Result<Change, Failure> {
    let Command::Create { amount, currency, capture_method, payment_method } = &call.command else {
        return Err(Failure::api("not a creation"));
    };
    let status = match payment_method {
        Some(_) => Status::RequiresConfirmation,
        None => Status::RequiresPaymentMethod,
    };
    let intent = Intent {
        id: new_id("pi"),
        amount: *amount,
        amount_capturable: 0,
        amount_received: 0,
        amount_refunded: 0,
        currency: currency.clone(),
        capture_method: *capture_method,
        payment_method: payment_method.clone(),
        status,
        latest_charge: None,
        metadata: call.metadata.clone(),
        created: now().unix_timestamp(),
        canceled_at: None,
        cancellation_reason: None,
        failed_charge: None,
    };
    Ok(Change::of(intent))
}

/// The intent as a confirmation finds it, with the payment method that it brings.
pub(super) fn confirmable(intent: &Intent, payment_method: Option<&str>) -> Result<Intent, Failure> {
    demand(intent, &[Status::RequiresPaymentMethod, Status::RequiresConfirmation], "confirmed")?;
    let payment_method = payment_method.map(str::to_owned).or_else(|| intent.payment_method.clone());
    if payment_method.is_none() {
        return Err(missing("payment_method"));
    }
    Ok(Intent { payment_method, ..intent.clone() })
}

/// Takes the money, or reserves it where the capture is manual.
pub(crate) fn charge(intent: &Intent, call: &Call) -> Change {
    let mut intent = Intent { failed_charge: None, ..intent.clone() };
    let charge = new_id("ch");
    let (kind, topic) = match intent.capture_method {
        CaptureMethod::Automatic => {
            intent.status = Status::Succeeded;
            intent.amount_received = intent.amount;
            (Kind::Charge, Topic::Succeeded)
        }
        CaptureMethod::Manual => {
            intent.status = Status::RequiresCapture;
            intent.amount_capturable = intent.amount;
            (Kind::Authorization, Topic::AmountCapturable)
        }
    };
    intent.latest_charge = Some(charge.clone());
    let moved = movement(kind, charge, intent.amount, &intent, call);
    Change::of(intent).told(moved, topic)
}

/// Refuses the payment method.
pub(super) fn decline(intent: &Intent, call: &Call) -> Change {
    let charge = new_id("ch");
    let (latest_charge, failed_charge) = (Some(charge.clone()), Some(charge.clone()));
    let status = Status::RequiresPaymentMethod;
    let intent = Intent { status, latest_charge, failed_charge, ..intent.clone() };
    let moved = movement(Kind::Decline, charge, intent.amount, &intent, call);
    let reply = Some(Reply { status: StatusCode::PAYMENT_REQUIRED, body: intent.declined_body() });
    Change { reply, ..Change::of(intent) }.told(moved, Topic::PaymentFailed)
}

/// Lets the confirmation wait.
pub(super) fn process(intent: &Intent) -> Change {
    let change = Change::of(Intent { status: Status::Processing, ..intent.clone() });
    Change { reply: None, topics: vec![Topic::Processing], ..change }
}

/// Takes what was reserved, or a part; the rest is released.
pub(super) fn capture(intent: &Intent, amount: Option<i64>, call: &Call) -> Result<Change, Failure> {
    demand(intent, &[Status::RequiresCapture], "captured")?;
    let amount = amount.unwrap_or(intent.amount_capturable);
    if amount > intent.amount_capturable {
        let message = format!("The amount to capture is over the {} reserved", intent.amount_capturable);
        return Err(Failure::param("amount_too_large", "amount_to_capture", message));
    }
    let (status, amount_received) = (Status::Succeeded, amount);
    let mut intent = Intent { status, amount_received, amount_capturable: 0, ..intent.clone() };
    // Stripe lays the metadata of a capture over the intent's.
    intent.metadata.extend(call.metadata.clone());
    let charge = intent.latest_charge.clone().unwrap_or_default();
    let moved = movement(Kind::Capture, charge, amount, &intent, call);
    Ok(Change::of(intent).told(moved, Topic::Succeeded))
}

/// Ends an intent that took no money; what was reserved is released.
pub(super) fn cancel(intent: &Intent, reason: Option<&str>, call: &Call) -> Result<Change, Failure> {
    let open = [Status::RequiresPaymentMethod, Status::RequiresConfirmation, Status::RequiresCapture];
    demand(intent, &open, "canceled")?;
    let released = intent.amount_capturable;
    let (status, canceled_at) = (Status::Canceled, Some(now().unix_timestamp()));
    let cancellation_reason = reason.map(str::to_owned);
    let intent = Intent { status, canceled_at, cancellation_reason, amount_capturable: 0, ..intent.clone() };
    let charge = intent.latest_charge.clone().unwrap_or_else(|| intent.id.clone());
    let moved = movement(Kind::Cancel, charge, released, &intent, call);
    Ok(Change::of(intent).told(moved, Topic::Canceled))
}

/// Refuses a command that the intent's state does not allow.
pub(super) fn demand(intent: &Intent, states: &[Status], verb: &str) -> Result<(), Failure> {
    if states.contains(&intent.status) {
        return Ok(());
    }
    let status = intent.status.word();
    let message = format!("This PaymentIntent could not be {verb} because it has a status of {status}");
    Err(Failure::state("payment_intent_unexpected_state", message).about(intent.object()))
}
