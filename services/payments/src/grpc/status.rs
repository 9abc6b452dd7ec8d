//! Errors of the desk as gRPC statuses with `google.rpc` details. Reasons are stable; texts are not.

use std::collections::HashMap;
use std::time::Duration;

use payments::{Error, Refusal, Violation};
use proto::Currency;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

/// The domain of the reasons.
pub(super) const DOMAIN: &str = "payments.banyan.dev";
/// When a retryable call may be sent again.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// Facts of a reason, for programs.
type Facts = Vec<(&'static str, String)>;

/// The status of an error. What a caller has no use for goes to the log.
pub(super) fn of(error: &Error) -> Status {
    match error {
        Error::NotFound => with(Code::NotFound, error, "NOT_FOUND", Vec::new()),
        Error::NotOwner => failed_precondition(error, "NOT_OWNER", Vec::new()),
        Error::Busy(_) => retry(Code::Aborted, error, "BUSY"),
        Error::Behind { here, head } => {
            let facts = vec![("here", here.to_string()), ("head", head.to_string())];
            detailed(Code::Aborted, &error.to_string(), "BEHIND", facts, Some(RETRY_AFTER))
        }
        Error::Parked => retry(Code::Aborted, error, "PARKED"),
        Error::InFlight => retry(Code::Aborted, error, "IN_FLIGHT"),
        Error::Refused(refusal) => refused(refusal),
        Error::Invalid(violations) => invalid(violations),
        Error::KeyReused => key_reused(error),
        // Not an error over gRPC: the service answers with the payment before it comes here.
        Error::OutcomePending(_) => retry(Code::Unavailable, error, "OUTCOME_PENDING"),
        Error::Unavailable(_) | Error::Database(_) | Error::Outbox(_) | Error::Authority(_) => {
            tracing::warn!(error = error as &dyn std::error::Error, "a call could not be answered");
            let status =
                Status::unavailable("payments can't answer now; the same request is safe to send again");
            detailed(status.code(), status.message(), "UNAVAILABLE", Vec::new(), Some(RETRY_AFTER))
        }
        Error::ForeignWrite | Error::Corrupt { .. } => {
            tracing::error!(error = error as &dyn std::error::Error, "a call failed");
            detailed(Code::Internal, "payments failed; see its log", "INTERNAL", Vec::new(), None)
        }
    }
}

fn refused(refusal: &Refusal) -> Status {
    let (reason, facts) = match refusal {
        Refusal::IllegalTransition { status, operation } => (
            "ILLEGAL_TRANSITION",
            vec![("status", status.word().to_owned()), ("operation", operation.word().to_owned())],
        ),
        Refusal::AmountTooLarge { asked, available } => {
            ("AMOUNT_TOO_LARGE", vec![("asked", asked.to_string()), ("available", available.to_string())])
        }
        Refusal::AmountNotAllowed { operation, asked, available } => (
            "AMOUNT_NOT_ALLOWED",
            vec![
                ("operation", operation.word().to_owned()),
                ("asked", asked.to_string()),
                ("available", available.to_string()),
            ],
        ),
        Refusal::Provider { code } => ("PROVIDER_REFUSED", vec![("code", code.clone())]),
        Refusal::WrongOutcome { .. } => ("WRONG_OUTCOME", Vec::new()),
        Refusal::EmptyAdjustment => ("EMPTY_ADJUSTMENT", Vec::new()),
        Refusal::Money(_) => ("AMOUNT_OUT_OF_RANGE", Vec::new()),
    };
    failed_precondition(refusal, reason, facts)
}

fn failed_precondition(error: &dyn std::error::Error, reason: &'static str, facts: Facts) -> Status {
    let text = error.to_string();
    let mut details = ErrorDetails::with_precondition_failure_violation(reason, "payment", text.clone());
    set_reason(&mut details, reason, facts);
    Status::with_error_details(Code::FailedPrecondition, text, details)
}

fn invalid(violations: &[Violation]) -> Status {
    let fields: Vec<FieldViolation> = violations.iter().map(field).collect();
    let named =
        violations.iter().map(|it| format!("{}: {}", it.field, it.reason)).collect::<Vec<_>>().join("; ");
    Status::with_error_details(Code::InvalidArgument, named, ErrorDetails::with_bad_request(fields))
}

fn field(violation: &Violation) -> FieldViolation {
    let reason = violation.code.map(|code| code.to_ascii_uppercase().replace('-', "_")).unwrap_or_default();
    FieldViolation { reason, ..FieldViolation::new(violation.field, violation.reason.clone()) }
}

/// The caller takes the amount to be in another currency than the payment's.
pub(super) fn wrong_currency(given: Currency, currency: Currency) -> Status {
    let text = format!("the payment is in {currency}, not in {given}");
    let mut details = ErrorDetails::with_bad_request_violation("currency", text.clone());
    set_reason(&mut details, "CURRENCY_MISMATCH", vec![("currency", currency.to_string())]);
    Status::with_error_details(Code::InvalidArgument, text, details)
}

fn key_reused(error: &Error) -> Status {
    let mut details = ErrorDetails::with_bad_request_violation("idempotency_key", error.to_string());
    set_reason(&mut details, "KEY_REUSED", Vec::new());
    Status::with_error_details(Code::InvalidArgument, error.to_string(), details)
}

fn with(code: Code, error: &Error, reason: &'static str, facts: Facts) -> Status {
    detailed(code, &error.to_string(), reason, facts, None)
}

fn retry(code: Code, error: &Error, reason: &'static str) -> Status {
    detailed(code, &error.to_string(), reason, Vec::new(), Some(RETRY_AFTER))
}

fn detailed(code: Code, text: &str, reason: &'static str, facts: Facts, retry: Option<Duration>) -> Status {
    let mut details = ErrorDetails::new();
    set_reason(&mut details, reason, facts);
    if retry.is_some() {
        details.set_retry_info(retry);
    }
    Status::with_error_details(code, text, details)
}

fn set_reason(details: &mut ErrorDetails, reason: &'static str, facts: Facts) {
    let facts: HashMap<String, String> =
        facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    details.set_error_info(reason, DOMAIN, facts);
}

#[cfg(test)]
mod tests {
    use payments::Operation;

    use super::*;

    fn reason(error: &Error) -> (Code, String) {
        let status = of(error);
        (
            status.code(),
            status.get_error_details().error_info().map(|it| it.reason.clone()).unwrap_or_default(),
        )
    }

    #[test]
    fn reasons_are_stable() {
        assert_eq!(reason(&Error::NotOwner), (Code::FailedPrecondition, "NOT_OWNER".into()));
        assert_eq!(reason(&Error::InFlight), (Code::Aborted, "IN_FLIGHT".into()));
        assert_eq!(reason(&Error::KeyReused), (Code::InvalidArgument, "KEY_REUSED".into()));
        let status = payments::Status::Declined;
        let refusal = Refusal::IllegalTransition { status, operation: Operation::Refund };
        assert_eq!(reason(&refusal.into()), (Code::FailedPrecondition, "ILLEGAL_TRANSITION".into()));
    }

    #[test]
    fn a_database_error_keeps_its_text_to_itself() {
        let error = Error::Database(sqlx::Error::Protocol("password of payments is s3cret".into()));
        let status = of(&error);
        assert_eq!(status.code(), Code::Unavailable);
        assert!(!status.message().contains("s3cret"));
    }

    #[test]
    fn each_field_is_named() {
        let zero = Violation::of_amount("amount_minor", 0).unwrap();
        let status = of(&Error::Invalid(vec![zero, Violation::new("reason", "too long")]));
        let details = status.get_error_details();
        let told = details.bad_request().unwrap().field_violations.iter();
        let told: Vec<_> = told.map(|it| (it.field.as_str(), it.reason.as_str())).collect();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(told, [("amount_minor", "AMOUNT_ZERO"), ("reason", "")]);
    }
}
