//! Differences, as one look finds them.

use proto::{Currency, PaymentId};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::Tenant;
use crate::payment::words;
use crate::provider::UnreadLine;

/// What kind of difference it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DifferenceKind {
    /// The provider moved money that the books don't have.
    MissingHere,
    /// The books have money that the provider's list does not.
    MissingThere,
    /// Both have it, by different amounts or currencies.
    Amount,
    /// The payment and the provider's object are in states that exclude each other.
    State,
    /// As `MissingThere`, but the line may still come.
    Late,
}

words!(DifferenceKind {
    MissingHere = "missing_here",
    MissingThere = "missing_there",
    Amount = "amount",
    State = "state",
    Late = "late",
});

/// A difference as one look finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Names it, the same at every look.
    pub(crate) subject: String,
    pub(crate) kind: DifferenceKind,
    pub(crate) payment: Option<(PaymentId, Tenant)>,
    /// The provider's object: a charge, a refund, a payment intent. Empty when nothing names one.
    pub(crate) object: String,
    /// What the books have. `None`: nothing.
    pub(crate) here_minor: Option<i64>,
    /// What the provider's list has. `None`: nothing.
    pub(crate) there_minor: Option<i64>,
    pub(crate) currency: Option<Currency>,
    pub(crate) detail: String,
    /// Around when the line is, or should be, in the list.
    pub(crate) at: OffsetDateTime,
}

/// A difference that a person accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) found: Found,
    pub(crate) by: String,
    pub(crate) reason: String,
}

impl Found {
    /// A line of the list that this version can't read.
    pub(crate) fn unread(line: &UnreadLine) -> Self {
        Self {
            subject: line_subject(&line.id),
            kind: DifferenceKind::MissingHere,
            payment: None,
            object: String::new(),
            here_minor: None,
            there_minor: None,
            currency: None,
            detail: format!("the line can't be read: {}", line.why),
            at: line.created,
        }
    }
}

/// The subject of what is found at a line.
pub(crate) fn line_subject(line: &str) -> String {
    format!("line:{line}")
}

/// The subject of a transaction without a line.
pub(crate) fn entry_subject(transaction: Uuid) -> String {
    format!("entry:{transaction}")
}

/// The subject of a payment intent's state.
pub(crate) fn state_subject(object: &str) -> String {
    format!("state:{object}")
}
