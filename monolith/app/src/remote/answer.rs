//! What the payments service answers, in the words of the desk.

use payments::{
    Account, Balance, CaptureMethod, Delivered, Error, Operation, Payment, Refusal, Status, Tenant, Violation,
};
use proto::{MoneyError, payments as wire};
use time::OffsetDateTime;
use tonic::Code;
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

/// Fields that the service may complain about.
const FIELDS: [&str; 14] = [
    "payment_id",
    "amount_minor",
    "amount",
    "idempotency_key",
    "page_size",
    "page_token",
    "tenant",
    "actor",
    "reason",
    "event_id",
    "kind",
    "object",
    "command_id",
    "created_ms",
];

pub(super) fn read_payment(tenant: &Tenant, payment: Option<wire::Payment>) -> Result<Payment, Error> {
    let wire = payment.ok_or_else(|| missing("the payment"))?;
    let status = status(&wire)?;
    let capture_method = match wire.capture_method() {
        wire::CaptureMethod::Automatic => CaptureMethod::Automatic,
        wire::CaptureMethod::Manual => CaptureMethod::Manual,
        wire::CaptureMethod::Unspecified => return Err(missing("the capture method")),
    };
    let amount = wire.amount.ok_or_else(|| missing("the amount"))?;
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(wire.requested_at_ms) * 1_000_000);
    Ok(Payment {
        id: wire.payment_id.parse().map_err(|error| unreadable("the payment id", error))?,
        tenant: tenant.clone(),
        order: wire.order_id.parse().map_err(|error| unreadable("the order id", error))?,
        amount: amount.try_into().map_err(|error| unreadable("the amount", error))?,
        capture_method,
        payment_method: wire.payment_method,
        status,
        authorized_minor: wire.authorized_minor,
        captured_minor: wire.captured_minor,
        refunded_minor: wire.refunded_minor,
        provider_ref: Some(wire.provider_ref).filter(|reference| !reference.is_empty()),
        version: wire.version,
        requested_at: at.map_err(|error| unreadable("the time", error))?,
        outcome_pending: wire.outcome_pending,
    })
}

pub(super) fn read_balance(wire: wire::AccountBalance) -> Result<Balance, Error> {
    let account = Account::ALL.iter().find(|account| account.word() == wire.account);
    let number = |text: &str| text.parse().map_err(|error| unreadable("a balance", error));
    Ok(Balance {
        account: *account.ok_or_else(|| missing("the account"))?,
        currency: wire.currency.parse().map_err(|error| unreadable("the currency", error))?,
        debits_minor: number(&wire.debits_minor)?,
        credits_minor: number(&wire.credits_minor)?,
    })
}

fn status(wire: &wire::Payment) -> Result<Status, Error> {
    match wire.status() {
        wire::PaymentStatus::Requested => Ok(Status::Requested),
        wire::PaymentStatus::Authorized => Ok(Status::Authorized),
        wire::PaymentStatus::Captured => Ok(Status::Captured),
        wire::PaymentStatus::Declined => Ok(Status::Declined),
        wire::PaymentStatus::Voided => Ok(Status::Voided),
        wire::PaymentStatus::Refunded => Ok(Status::Refunded),
        wire::PaymentStatus::Unspecified => Err(missing("the status")),
    }
}

pub(super) fn read_delivered(wire: wire::DeliverWebhookResponse) -> Result<Delivered, Error> {
    match wire.delivery() {
        wire::Delivery::Applied => Ok(Delivered::Applied),
        wire::Delivery::Surprise => Ok(Delivered::Surprise(wire.surprise)),
        wire::Delivery::Early => Ok(Delivered::Early),
        wire::Delivery::Unspecified => Err(missing("whether the notice was taken")),
    }
}

pub(super) fn missing(what: &'static str) -> Error {
    Error::Corrupt { what, source: "the payments service left it out".into() }
}

fn unreadable(what: &'static str, error: impl Into<outbox::BoxError>) -> Error {
    Error::Corrupt { what, source: error.into() }
}

/// The service's reason decides; its code where it gives none.
pub(super) fn failed(status: &tonic::Status) -> Error {
    let details = status.get_error_details();
    if let Some(error) = by_reason(&details) {
        return error;
    }
    match status.code() {
        Code::NotFound => Error::NotFound,
        Code::InvalidArgument => Error::Invalid(violations(&details, status.message())),
        Code::Aborted => Error::Busy("the payments service asks to try again"),
        Code::Unauthenticated | Code::PermissionDenied => {
            tracing::error!(%status, "the payments service does not accept this process' token");
            Error::Unavailable("the payments service does not accept this process".to_owned())
        }
        // `Internal` without a reason is the transport's own, such as a server that goes away: nothing is known.
        code => {
            tracing::warn!(%status, "the payments service could not answer");
            Error::Unavailable(format!("the payments service: {}", code.description()))
        }
    }
}

fn by_reason(details: &ErrorDetails) -> Option<Error> {
    let info = details.error_info()?;
    let text = |name: &str| info.metadata.get(name).cloned().unwrap_or_default();
    let number = |name: &str| text(name).parse::<i64>().ok();
    match info.reason.as_str() {
        "NOT_OWNER" => Some(Error::NotOwner),
        "BUSY" => Some(Error::Busy("the payments service asks to try again")),
        "BEHIND" => Some(Error::Behind {
            here: number("here").unwrap_or_default(),
            head: number("head").unwrap_or_default(),
        }),
        "PARKED" => Some(Error::Parked),
        "INTERNAL" => Some(unreadable("the payments service's answer", "it failed; see its log")),
        "IN_FLIGHT" => Some(Error::InFlight),
        "KEY_REUSED" => Some(Error::KeyReused),
        "ILLEGAL_TRANSITION" => Some(Error::Refused(Refusal::IllegalTransition {
            status: known_status(&text("status"))?,
            operation: known_operation(&text("operation"))?,
        })),
        "AMOUNT_TOO_LARGE" => Some(Error::Refused(Refusal::AmountTooLarge {
            asked: number("asked")?,
            available: number("available")?,
        })),
        "AMOUNT_NOT_ALLOWED" => Some(Error::Refused(Refusal::AmountNotAllowed {
            operation: known_operation(&text("operation"))?,
            asked: number("asked")?,
            available: number("available")?,
        })),
        "AMOUNT_OUT_OF_RANGE" => Some(Error::Refused(Refusal::Money(MoneyError::Overflow))),
        "PROVIDER_REFUSED" => Some(Error::Refused(Refusal::Provider { code: text("code") })),
        _ => None,
    }
}

fn known_status(word: &str) -> Option<Status> {
    use Status::{Authorized, Captured, Declined, Refunded, Requested, Voided};
    [Requested, Authorized, Captured, Declined, Voided, Refunded].into_iter().find(|it| it.word() == word)
}

fn known_operation(word: &str) -> Option<Operation> {
    use Operation::{Authorize, Capture, Charge, Refund, Void};
    [Charge, Authorize, Capture, Void, Refund].into_iter().find(|it| it.word() == word)
}

fn violations(details: &ErrorDetails, message: &str) -> Vec<Violation> {
    let named = details.bad_request().map(|request| request.field_violations.as_slice()).unwrap_or_default();
    if named.is_empty() {
        return vec![Violation::new("request", message)];
    }
    let field = |name: &str| FIELDS.into_iter().find(|field| *field == name).unwrap_or("request");
    let violation = |it: &FieldViolation| Violation {
        code: code(&it.reason),
        ..Violation::new(field(&it.field), it.description.clone())
    };
    named.iter().map(violation).collect()
}

/// `AMOUNT_ZERO` is the desk's `amount-zero`.
fn code(reason: &str) -> Option<&'static str> {
    let word = reason.to_ascii_lowercase().replace('_', "-");
    Violation::CODES.into_iter().find(|code| *code == word)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn refused(reason: &str, metadata: &[(&str, &str)]) -> Error {
        let metadata: HashMap<String, String> =
            metadata.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let details = ErrorDetails::with_error_info(reason, "payments.banyan.dev", metadata);
        failed(&tonic::Status::with_error_details(Code::FailedPrecondition, "no", details))
    }

    #[test]
    fn a_reason_becomes_the_desks_error() {
        assert!(matches!(refused("NOT_OWNER", &[]), Error::NotOwner));
        assert!(matches!(refused("KEY_REUSED", &[]), Error::KeyReused));
        let behind = refused("BEHIND", &[("here", "2"), ("head", "3")]);
        assert!(matches!(behind, Error::Behind { here: 2, head: 3 }));
        assert!(matches!(refused("PARKED", &[]), Error::Parked));
        let illegal = refused("ILLEGAL_TRANSITION", &[("status", "declined"), ("operation", "refund")]);
        assert_eq!(illegal.to_string(), "a payment that is declined does not allow refund");
        let large = refused("AMOUNT_TOO_LARGE", &[("asked", "9"), ("available", "5")]);
        assert!(matches!(large, Error::Refused(Refusal::AmountTooLarge { asked: 9, available: 5 })));
    }

    #[test]
    fn a_code_without_a_reason_counts() {
        assert!(matches!(failed(&tonic::Status::not_found("")), Error::NotFound));
        assert!(matches!(failed(&tonic::Status::deadline_exceeded("")), Error::Unavailable(_)));
        let mut details = ErrorDetails::new();
        details.add_bad_request_violation("amount_minor", "must be positive");
        let status = tonic::Status::with_error_details(Code::InvalidArgument, "bad", details);
        let Error::Invalid(violations) = failed(&status) else { panic!("{status}") };
        assert_eq!(violations, [Violation::new("amount_minor", "must be positive")]);
    }

    #[test]
    fn a_fields_code_arrives() {
        let negative = FieldViolation {
            reason: "AMOUNT_NEGATIVE".into(),
            ..FieldViolation::new("amount_minor", "a positive amount is needed")
        };
        let details = ErrorDetails::with_bad_request(vec![negative]);
        let status = tonic::Status::with_error_details(Code::InvalidArgument, "bad", details);
        let Error::Invalid(violations) = failed(&status) else { panic!("{status}") };
        assert_eq!(violations, [Violation::of_amount("amount_minor", -1).unwrap()]);
        assert_eq!(code("WORD_OF_A_LATER_VERSION"), None);
    }
}
