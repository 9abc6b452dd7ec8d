//! What can go wrong.

use outbox::BoxError;
use proto::MoneyError;

use crate::{Payment, Refusal};

/// A field of a request that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The field, in snake case.
    pub field: &'static str,
    /// What is wrong, for programs: one of [`Violation::CODES`], or nothing where the field says enough.
    pub code: Option<&'static str>,
    /// What is needed.
    pub reason: String,
}

/// Errors of this crate. Which of them a caller may send again, [`Error::is_retryable`] says.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such payment, or another tenant's.
    #[error("there is no such payment")]
    NotFound,
    /// The other home may write this payment. Nothing was done.
    #[error("this home does not own the payment")]
    NotOwner,
    /// Someone moves the payment, or another command on it is still open. Nothing was done; send it again.
    #[error("the payment is busy: {0}")]
    Busy(&'static str),
    /// A rule forbids it, or the provider did. Nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Fields of the request break rules.
    #[error("refused: {}", reasons(.0))]
    Invalid(Vec<Violation>),
    /// The first request with this idempotency key has no outcome yet.
    #[error("the first request with this idempotency key is still in flight")]
    InFlight,
    /// The idempotency key belongs to another request.
    #[error("the idempotency key was used with another request")]
    KeyReused,
    /// Accepted and committed, but the provider's answer is not known yet. The same key answers later.
    #[error("the command was accepted; its outcome is not known yet")]
    OutcomePending(Box<Payment>),
    /// This home can't answer now; whether a command took effect is unknown. The same key is safe to send again.
    #[error("payments can't answer now: {0}")]
    Unavailable(String),
    /// An event of another home changes a payment that this home owns: two owners wrote. Someone must look.
    #[error("a foreign event would change a payment that this home owns")]
    ForeignWrite,
    /// This home's row is not at the head of the payment's stream: its replica has events to apply first.
    #[error("the payment is at version {here}, but its stream is at {head}")]
    Behind {
        /// The row's version.
        here: i64,
        /// The stream's.
        head: i64,
    },
    /// Events of the payment wait here, so this home's copy of it is not whole.
    #[error("events of the payment wait here: the copy is not whole")]
    Parked,
    /// A row or an event that this version can't read.
    #[error("{what} can't be read")]
    Corrupt {
        /// Which one.
        what: &'static str,
        /// Why.
        source: BoxError,
    },
    /// The database failed.
    #[error("the payments database failed")]
    Database(#[from] sqlx::Error),
    /// An event could not be published.
    #[error("the event could not be published")]
    Outbox(#[from] outbox::Error),
    /// Who owns a payment could not be found out.
    #[error("the payment's owner could not be determined")]
    Authority(#[source] BoxError),
}

impl Violation {
    /// All codes, which never change.
    pub const CODES: [&'static str; 3] = ["amount-zero", "amount-negative", "currency-unknown"];

    /// A violation of one field.
    pub fn new(field: &'static str, reason: impl Into<String>) -> Self {
        Self { field, code: None, reason: reason.into() }
    }

    /// What is wrong with an amount of so many minor units: it must be positive.
    pub fn of_amount(field: &'static str, minor: i64) -> Option<Self> {
        let code = match minor {
            0 => "amount-zero",
            ..0 => "amount-negative",
            1.. => return None,
        };
        Some(Self { code: Some(code), ..Self::new(field, "a positive amount is needed") })
    }

    /// What is wrong with a currency that is none.
    pub fn of_currency(field: &'static str, error: &MoneyError) -> Self {
        Self { code: Some("currency-unknown"), ..Self::new(field, error.to_string()) }
    }
}

impl Error {
    /// Whether the same request may succeed later without any change.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Busy(_)
            | Error::InFlight
            | Error::Unavailable(_)
            | Error::Behind { .. }
            | Error::Parked
            | Error::Database(_)
            | Error::Outbox(_)
            | Error::Authority(_) => true,
            Error::NotFound
            | Error::NotOwner
            | Error::Refused(_)
            | Error::Invalid(_)
            | Error::KeyReused
            | Error::OutcomePending(_)
            | Error::ForeignWrite
            | Error::Corrupt { .. } => false,
        }
    }

    pub(crate) fn corrupt(what: &'static str, source: impl Into<BoxError>) -> Self {
        Error::Corrupt { what, source: source.into() }
    }
}

fn reasons(violations: &[Violation]) -> String {
    let reasons: Vec<&str> = violations.iter().map(|violation| violation.reason.as_str()).collect();
    reasons.join("; ")
}
