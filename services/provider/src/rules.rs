//! What a command does to an intent: pure, so that the journal is the only place where things happen.

use axum::http::StatusCode;
use proto::Currency;
use serde_json::Value;
use uuid::Uuid;

use crate::call::{Call, Command};
use crate::clock::now;
use crate::control::Control;
use crate::failure::Failure;
use crate::intent::{CaptureMethod, Intent, Late, Status};
use crate::line::{Kind, Movement};
use crate::refund::Refund;

/// A decision: what moves, what the objects are afterwards, and what the client hears.
#[derive(Debug, Clone, Default)]
pub(crate) struct Change {
    pub(crate) movement: Option<Movement>,
    pub(crate) intent: Option<Intent>,
    pub(crate) refund: Option<Refund>,
    pub(crate) control: Option<Control>,
    /// `None`: the client hears nothing, and nothing is kept under its key.
    pub(crate) reply: Option<Reply>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: Value,
}

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
        currency: lower(*currency),
        capture_method: *capture_method,
        payment_method: payment_method.clone(),
        status,
        latest_charge: None,
        metadata: call.metadata.clone(),
        created: now().unix_timestamp(),
        canceled_at: None,
        cancellation_reason: None,
        declined: false,
        lost_once: false,
        late: None,
    };
    Ok(Change::of(intent))
}

/// Takes the money, or reserves it where the capture is manual.
pub(crate) fn charge(intent: &Intent, call: &Call) -> Change {
    let mut intent = Intent { late: None, declined: false, ..intent.clone() };
    let charge = new_id("ch");
    let kind = match intent.capture_method {
        CaptureMethod::Automatic => {
            intent.status = Status::Succeeded;
            intent.amount_received = intent.amount;
            Kind::Charge
        }
        CaptureMethod::Manual => {
            intent.status = Status::RequiresCapture;
            intent.amount_capturable = intent.amount;
            Kind::Authorization
        }
    };
    intent.latest_charge = Some(charge.clone());
    let moved = movement(kind, charge, intent.amount, &intent, call);
    Change { movement: Some(moved), ..Change::of(intent) }
}

/// The same, but the answer says that it failed.
pub(crate) fn charge_and_fail(intent: &Intent, call: &Call) -> Change {
    let failure = Failure::api("An unexpected error occurred");
    let reply = Reply { status: failure.status, body: failure.body() };
    Change { reply: Some(reply), ..charge(intent, call) }
}

/// Refuses the payment method.
pub(crate) fn decline(intent: &Intent, call: &Call) -> Change {
    let intent = Intent { status: Status::RequiresPaymentMethod, declined: true, ..intent.clone() };
    let moved = movement(Kind::Decline, new_id("ch"), intent.amount, &intent, call);
    let reply = Reply { status: StatusCode::PAYMENT_REQUIRED, body: intent.declined_body() };
    Change { movement: Some(moved), intent: Some(intent), reply: Some(reply), ..Change::default() }
}

/// Loses the first confirmation on its way, and charges at the next.
pub(crate) fn charge_unless_first(intent: &Intent, call: &Call) -> Change {
    if intent.lost_once {
        return charge(intent, call);
    }
    Change { reply: None, ..Change::of(Intent { lost_once: true, ..intent.clone() }) }
}

/// TEST ONLY: takes the money and forgets that it did, until it is asked again; then it takes it again.
pub(crate) fn charge_and_forget(intent: &Intent, call: &Call) -> Change {
    if intent.lost_once {
        return charge(intent, call);
    }
    Change { movement: charge(intent, call).movement, ..charge_unless_first(intent, call) }
}

/// Puts the charge off.
pub(crate) fn postpone(intent: &Intent, late: Late) -> Change {
    let (status, late) = (Status::Processing, Some(late));
    Change { reply: None, ..Change::of(Intent { status, late, ..intent.clone() }) }
}

/// Takes what was reserved, or a part; the rest is released.
pub(crate) fn capture(intent: &Intent, amount: Option<i64>, call: &Call) -> Result<Change, Failure> {
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
    Ok(Change { movement: Some(moved), ..Change::of(intent) })
}

/// Ends an intent that took no money; what was reserved is released.
pub(crate) fn cancel(intent: &Intent, reason: Option<&str>, call: &Call) -> Result<Change, Failure> {
    let open = [Status::RequiresPaymentMethod, Status::RequiresConfirmation, Status::RequiresCapture];
    demand(intent, &open, "canceled")?;
    let released = intent.amount_capturable;
    let (status, canceled_at) = (Status::Canceled, Some(now().unix_timestamp()));
    let cancellation_reason = reason.map(str::to_owned);
    let intent = Intent { status, canceled_at, cancellation_reason, amount_capturable: 0, ..intent.clone() };
    let charge = intent.latest_charge.clone().unwrap_or_else(|| intent.id.clone());
    let moved = movement(Kind::Cancel, charge, released, &intent, call);
    Ok(Change { movement: Some(moved), ..Change::of(intent) })
}

/// Gives back all that was taken, or a part.
pub(crate) fn refund(
    intent: &Intent,
    amount: Option<i64>,
    reason: Option<&str>,
    call: &Call,
) -> Result<Change, Failure> {
    demand(intent, &[Status::Succeeded], "refunded")?;
    let left = intent.refundable();
    if left == 0 {
        return Err(Failure::state("charge_already_refunded", "The charge has already been refunded"));
    }
    let amount = amount.unwrap_or(left);
    if amount > left {
        let message = format!("Refund amount {amount} is greater than the unrefunded amount {left}");
        return Err(Failure::param("amount_too_large", "amount", message));
    }
    let intent = Intent { amount_refunded: intent.amount_refunded.saturating_add(amount), ..intent.clone() };
    let refund = Refund {
        id: new_id("re"),
        payment_intent: intent.id.clone(),
        charge: intent.latest_charge.clone(),
        amount,
        currency: intent.currency.clone(),
        reason: reason.map(str::to_owned),
        metadata: call.metadata.clone(),
        created: now().unix_timestamp(),
    };
    let moved = movement(Kind::Refund, refund.id.clone(), amount, &intent, call);
    let reply = Some(Reply { status: StatusCode::OK, body: refund.object() });
    Ok(Change {
        movement: Some(moved),
        intent: Some(intent),
        refund: Some(refund),
        reply,
        ..Change::default()
    })
}

/// Refuses a command that the intent's state does not allow.
pub(crate) fn demand(intent: &Intent, states: &[Status], verb: &str) -> Result<(), Failure> {
    if states.contains(&intent.status) {
        return Ok(());
    }
    let status = intent.status.word();
    let message = format!("This PaymentIntent could not be {verb} because it has a status of {status}");
    Err(Failure::state("payment_intent_unexpected_state", message).about(intent.object()))
}

impl Change {
    /// The intent as it is now, answered with itself.
    fn of(intent: Intent) -> Self {
        let reply = Some(Reply { status: StatusCode::OK, body: intent.object() });
        Self { intent: Some(intent), reply, ..Self::default() }
    }
}

fn movement(kind: Kind, id: String, amount: i64, intent: &Intent, call: &Call) -> Movement {
    // What the request says goes before what the intent was made with: a capture has a command of its own.
    let mut metadata = intent.metadata.clone();
    metadata.extend(call.metadata.clone());
    let (currency, idempotency_key) = (intent.currency.clone(), call.key.clone());
    Movement { kind, id, payment_intent: intent.id.clone(), amount, currency, idempotency_key, metadata }
}

fn lower(currency: Currency) -> String {
    currency.code().to_ascii_lowercase()
}

/// `pi_..`, `ch_..`, `re_..`: later ones sort after earlier ones.
fn new_id(prefix: &str) -> String {
    format!("{prefix}_{}", Uuid::now_v7().simple())
}
