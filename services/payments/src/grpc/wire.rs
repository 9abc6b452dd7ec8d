//! A payment as `payments.v1` has it.

use payments::{Balance, CaptureMethod, Payment, Status};
use proto::payments as v1;

pub(super) fn payment(payment: &Payment) -> v1::Payment {
    let requested_at_ms = payment.requested_at.unix_timestamp_nanos() / 1_000_000;
    v1::Payment {
        payment_id: payment.id.to_string(),
        order_id: payment.order.to_string(),
        amount: Some(payment.amount.into()),
        status: status(payment.status).into(),
        authorized_minor: payment.authorized_minor,
        captured_minor: payment.captured_minor,
        refunded_minor: payment.refunded_minor,
        // Times in the database fit.
        requested_at_ms: i64::try_from(requested_at_ms).unwrap_or_default(),
        version: payment.version,
        outcome_pending: payment.outcome_pending,
        capture_method: capture_method(payment.capture_method).into(),
        payment_method: payment.payment_method.clone(),
        provider_ref: payment.provider_ref.clone().unwrap_or_default(),
    }
}

pub(super) fn balance(balance: &Balance) -> v1::AccountBalance {
    v1::AccountBalance {
        account: balance.account.word().to_owned(),
        currency: balance.currency.to_string(),
        debits_minor: balance.debits_minor.to_string(),
        credits_minor: balance.credits_minor.to_string(),
        balance_minor: balance.minor().to_string(),
    }
}

fn status(status: Status) -> v1::PaymentStatus {
    match status {
        Status::Requested => v1::PaymentStatus::Requested,
        Status::Authorized => v1::PaymentStatus::Authorized,
        Status::Captured => v1::PaymentStatus::Captured,
        Status::Declined => v1::PaymentStatus::Declined,
        Status::Voided => v1::PaymentStatus::Voided,
        Status::Refunded => v1::PaymentStatus::Refunded,
    }
}

fn capture_method(method: CaptureMethod) -> v1::CaptureMethod {
    match method {
        CaptureMethod::Automatic => v1::CaptureMethod::Automatic,
        CaptureMethod::Manual => v1::CaptureMethod::Manual,
    }
}
