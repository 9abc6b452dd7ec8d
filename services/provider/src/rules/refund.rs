//! Giving money back.

use axum::http::StatusCode;

use super::intent::demand;
use super::{Change, Reply, movement, new_id};
use crate::call::Call;
use crate::clock::now;
use crate::event::Topic;
use crate::failure::Failure;
use crate::intent::{Intent, Status};
use crate::line::Kind;
use crate::refund::{self, Refund};

/// Gives back all that was taken, or a part.
pub(super) fn refund(
    intent: &Intent,
    amount: Option<i64>,
    reason: Option<&str>,
    call: &Call,
) -> Result<Change, Failure> {
    let refund = make(intent, amount, reason, call)?;
    let amount_refunded = intent.amount_refunded.saturating_add(refund.amount);
    let intent = Intent { amount_refunded, ..intent.clone() };
    let moved = movement(Kind::Refund, refund.id.clone(), refund.amount, &intent, call);
    let reply = Some(Reply { status: StatusCode::OK, body: refund.object() });
    let change = Change { intent: Some(intent), refund: Some(refund), reply, ..Change::default() };
    Ok(change.told(moved, Topic::RefundCreated))
}

/// Makes a refund that the payer's bank sends back: an object that failed, and no money moved.
pub(super) fn fail(
    intent: &Intent,
    amount: Option<i64>,
    reason: Option<&str>,
    call: &Call,
) -> Result<Change, Failure> {
    let made = make(intent, amount, reason, call)?;
    let failure_reason = Some("expired_or_canceled_card".to_owned());
    let refund = Refund { status: refund::Status::Failed, failure_reason, ..made };
    let reply = Some(Reply { status: StatusCode::OK, body: refund.object() });
    let topics = vec![Topic::RefundCreated, Topic::RefundUpdated, Topic::RefundFailed];
    Ok(Change { refund: Some(refund), topics, reply, ..Change::default() })
}

/// A refund that succeeded at first fails after all, and the money is back.
pub(crate) fn send_back(intent: &Intent, refund: &Refund, call: &Call) -> Result<Change, Failure> {
    if refund.status == refund::Status::Failed {
        return Err(Failure::state("refund_failed", "The refund has failed before"));
    }
    let amount_refunded = intent.amount_refunded.saturating_sub(refund.amount);
    let intent = Intent { amount_refunded, ..intent.clone() };
    let failure_reason = Some("lost_or_stolen_card".to_owned());
    let refund = Refund { status: refund::Status::Failed, failure_reason, ..refund.clone() };
    let moved = movement(Kind::RefundFailure, refund.id.clone(), refund.amount, &intent, call);
    let reply = Some(Reply { status: StatusCode::OK, body: refund.object() });
    let topics = vec![Topic::RefundUpdated, Topic::RefundFailed];
    let (intent, refund) = (Some(intent), Some(refund));
    Ok(Change { movement: Some(moved), intent, refund, topics, reply, ..Change::default() })
}

fn make(intent: &Intent, amount: Option<i64>, reason: Option<&str>, call: &Call) -> Result<Refund, Failure> {
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
    Ok(Refund {
        id: new_id("re"),
        payment_intent: intent.id.clone(),
        charge: intent.latest_charge.clone(),
        amount,
        currency: intent.currency.clone(),
        status: refund::Status::Succeeded,
        failure_reason: None,
        reason: reason.map(str::to_owned),
        metadata: call.metadata.clone(),
        created: now().unix_timestamp(),
    })
}
