//! Placing the provider's lines against the books: pure, and line by line, so the list may be cut anywhere.
//!
//! A line agrees when the books have its amount: by the command that moved the money, by adjustments that were booked for this
//! very line, or by both. A transaction of the books answers for one line only, so money that was taken twice shows.

use uuid::Uuid;

use super::books::Books;
use super::found::{DifferenceKind, Found, line_subject};
use crate::provider::{LineKind, SettlementLine};

/// What becomes of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    /// The transaction that answers for it from now on.
    pub(crate) entry: Option<Uuid>,
    pub(crate) verdict: Verdict,
}

/// Whether a line and the books agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The books have its amount.
    Agrees {
        /// In part or whole by adjustments.
        adjusted: bool,
    },
    /// A command on its payment is open, which may be the difference that is named here.
    Waits(Box<Found>),
    /// Nothing that the books would have.
    NotOurs,
    /// They differ.
    Differs(Box<Found>),
}

/// Places a line. `books`: of the payment that the line, or its payment intent, names.
pub(crate) fn place(line: &SettlementLine, books: Option<&Books>) -> Placed {
    let only = |verdict| Placed { entry: None, verdict };
    if line.kind == LineKind::Other {
        return only(Verdict::NotOurs);
    }
    let Some(books) = books else {
        return only(Verdict::Differs(Box::new(found(line, None, DifferenceKind::MissingHere, None))));
    };
    if books.open {
        let mut found = found(line, Some(books), DifferenceKind::MissingHere, None);
        found.detail = "a command on its payment has no outcome yet".to_owned();
        return only(Verdict::Waits(Box::new(found)));
    }
    let adjustments = books.adjustments(line);
    let adjusted = adjustments.iter().fold(0_i64, |sum, minor| sum.saturating_add(*minor));
    // A line that was booked by itself stays so, whatever its command's transaction answers for.
    if !adjustments.is_empty() && adjusted == line.amount.minor && books.currency == line.amount.currency {
        return only(Verdict::Agrees { adjusted: true });
    }
    let entry = books.answers_for(line);
    let here_minor = (entry.is_some() || !adjustments.is_empty())
        .then(|| entry.map_or(0, |entry| entry.minor).saturating_add(adjusted));
    let verdict = match here_minor {
        Some(minor) if minor == line.amount.minor && books.currency == line.amount.currency => {
            Verdict::Agrees { adjusted: !adjustments.is_empty() }
        }
        Some(_) => Verdict::Differs(Box::new(found(line, Some(books), DifferenceKind::Amount, here_minor))),
        None => Verdict::Differs(Box::new(found(line, Some(books), DifferenceKind::MissingHere, None))),
    };
    Placed { entry: entry.map(|entry| entry.transaction), verdict }
}

fn found(
    line: &SettlementLine,
    books: Option<&Books>,
    kind: DifferenceKind,
    here_minor: Option<i64>,
) -> Found {
    let detail = match books {
        Some(books) if books.currency != line.amount.currency => {
            format!("the payment is in {}", books.currency)
        }
        Some(_) => String::new(),
        None => match line.payment {
            Some(payment) => format!("no payment {payment} is known here"),
            None => format!("no payment of {} is known here", line.payment_intent.as_deref().unwrap_or("it")),
        },
    };
    Found {
        subject: line_subject(&line.id),
        kind,
        payment: books.map(|books| (books.payment, books.tenant.clone())),
        object: line.object.clone(),
        here_minor,
        there_minor: Some(line.amount.minor),
        currency: Some(line.amount.currency),
        detail,
        at: line.created,
    }
}

#[cfg(test)]
mod tests;
