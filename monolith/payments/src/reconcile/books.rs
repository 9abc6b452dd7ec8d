//! What the books have of a payment, and which part of it answers for a line.

use proto::{Currency, PaymentId};
use uuid::Uuid;

use crate::Tenant;
use crate::provider::{LineKind, SettlementLine};

/// The most adjustments of one line; what differs still, a person must look at.
pub(crate) const ADJUSTMENTS_MAX: u32 = 16;
/// Names the adjustments of lines, for version 5 of UUIDs.
const ADJUSTMENTS: Uuid = Uuid::from_u128(0x6f1d_36a1_9b7c_4c7e_8d5e_2b6a_4b0e_9c11);

/// What this home's books have of a payment.
#[derive(Debug, Clone)]
pub(crate) struct Books {
    pub(crate) payment: PaymentId,
    pub(crate) tenant: Tenant,
    pub(crate) currency: Currency,
    /// The payment intent that its commands went through.
    pub(crate) intent: Option<String>,
    /// A command has no definite answer yet: what differs is the resolver's business.
    pub(crate) open: bool,
    /// Reserved and not taken, as far as the commands go.
    pub(crate) authorized: bool,
    /// The payment's version that all this is of.
    pub(crate) version: i64,
    pub(crate) entries: Vec<Entry>,
}

/// A ledger transaction that moved money at the provider.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) transaction: Uuid,
    /// On the clearing account.
    pub(crate) minor: i64,
    /// It followed the provider instead of a command.
    pub(crate) adjustment: bool,
    /// The line that it answers for, once one was seen.
    pub(crate) line: Option<String>,
}

impl Books {
    /// The command's transaction that moved a line's money. A payment intent takes money once; a refund names its command.
    pub(crate) fn answers_for(&self, line: &SettlementLine) -> Option<&Entry> {
        let free = |entry: &&Entry| {
            !entry.adjustment && entry.line.as_deref().is_none_or(|answered| answered == line.id)
        };
        let mut free = self.entries.iter().filter(free);
        match line.kind {
            LineKind::Charge => free.find(|entry| {
                let same = match (&self.intent, &line.payment_intent) {
                    (Some(ours), Some(theirs)) => ours == theirs,
                    _ => line.command == Some(entry.transaction),
                };
                same && entry.minor > 0
            }),
            LineKind::Refund => free.find(|entry| entry.minor < 0 && line.command == Some(entry.transaction)),
            LineKind::RefundFailure | LineKind::Other => None,
        }
    }

    /// Amounts of what was adjusted for a line, in the order of booking.
    pub(crate) fn adjustments(&self, line: &SettlementLine) -> Vec<i64> {
        let booked = |nth| {
            let id = adjustment_id(self.payment, &line.id, nth);
            self.entries.iter().find(|entry| entry.transaction == id).map(|entry| entry.minor)
        };
        (0..ADJUSTMENTS_MAX).map_while(booked).collect()
    }

    /// From now on a transaction answers for a line. False when it does already.
    pub(crate) fn answered(&mut self, transaction: Uuid, line: &str) -> bool {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.transaction == transaction) else {
            return false;
        };
        let new = entry.line.as_deref() != Some(line);
        entry.line = Some(line.to_owned());
        new
    }
}

/// The id of a line's nth adjustment, from 0: the same in both homes and after every crash.
pub(crate) fn adjustment_id(payment: PaymentId, line: &str, nth: u32) -> Uuid {
    Uuid::new_v5(&ADJUSTMENTS, format!("{payment}:{line}:{nth}").as_bytes())
}
