//! Decisions made wrong on purpose. A comparison that does not tell one of them from what came sees nothing.

use super::compare::Said;
use crate::{Account, Change, Payment};

/// A wrong decision, made from a right one.
pub(crate) struct Mutant {
    /// Stable: counts are kept by it.
    pub(crate) name: &'static str,
    /// The outcomes that it can run on.
    pub(crate) outcomes: &'static [&'static str],
    /// From the state before and the right decision; `None` when it does not apply.
    pub(crate) change: fn(&Payment, &Said) -> Option<Said>,
}

/// All of them.
pub(crate) const MUTANTS: [Mutant; 6] = [
    Mutant {
        name: "one_unit_more",
        outcomes: &["authorized", "captured", "captured_part", "refunded", "refunded_part"],
        change: one_unit_more,
    },
    Mutant {
        name: "status_kept",
        outcomes: &["authorized", "captured", "captured_part", "declined", "refunded", "voided"],
        change: status_kept,
    },
    Mutant { name: "refund_twice", outcomes: &["refunded", "refunded_part"], change: refund_twice },
    Mutant { name: "fee_forgotten", outcomes: &["captured"], change: fee_forgotten },
    Mutant {
        name: "not_booked",
        outcomes: &["captured", "captured_part", "refunded", "refunded_part"],
        change: not_booked,
    },
    Mutant { name: "provider_forgotten", outcomes: &["authorized", "captured"], change: provider_forgotten },
];

fn one_unit_more(_: &Payment, right: &Said) -> Option<Said> {
    let mut wrong = right.clone();
    let minor = match right.change {
        Change::Authorized => &mut wrong.payment.authorized_minor,
        Change::Captured => &mut wrong.payment.captured_minor,
        Change::Refunded => &mut wrong.payment.refunded_minor,
        Change::Declined | Change::Voided => return None,
    };
    *minor = minor.checked_add(1)?;
    Some(wrong)
}

fn status_kept(before: &Payment, right: &Said) -> Option<Said> {
    let mut wrong = right.clone();
    wrong.payment.status = before.status;
    (before.status != right.payment.status).then_some(wrong)
}

fn refund_twice(before: &Payment, right: &Said) -> Option<Said> {
    let mut wrong = right.clone();
    let refunded = right.payment.refunded_minor.checked_sub(before.refunded_minor)?;
    wrong.payment.refunded_minor = right.payment.refunded_minor.checked_add(refunded)?;
    (right.change == Change::Refunded && refunded > 0).then_some(wrong)
}

/// The merchant gets the fee. A capture too small to have one does not show this.
fn fee_forgotten(_: &Payment, right: &Said) -> Option<Said> {
    let mut wrong = right.clone();
    let mut forgotten = false;
    for transaction in &mut wrong.ledger {
        let fee: i64 = transaction
            .postings
            .iter()
            .filter(|posting| posting.account == Account::Fees)
            .map(|posting| posting.amount.minor)
            .fold(0, i64::saturating_add);
        transaction.postings.retain(|posting| posting.account != Account::Fees);
        for posting in &mut transaction.postings {
            if posting.account == Account::Payable {
                posting.amount.minor = posting.amount.minor.checked_add(fee)?;
            }
        }
        forgotten |= fee != 0;
    }
    forgotten.then_some(wrong)
}

fn not_booked(_: &Payment, right: &Said) -> Option<Said> {
    (!right.ledger.is_empty()).then(|| Said { ledger: Vec::new(), ..right.clone() })
}

fn provider_forgotten(before: &Payment, right: &Said) -> Option<Said> {
    let mut wrong = right.clone();
    wrong.payment.provider_ref = before.provider_ref.clone();
    (before.provider_ref != right.payment.provider_ref).then_some(wrong)
}
