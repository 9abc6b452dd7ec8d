//! The settlement list in memory: true, until a test says otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use proto::{Currency, Money, PaymentId};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::provider::{LineKind, Memory, SettlementLine, SettlementPage, Tag};

/// Lines of a page: few, so that tests turn pages.
const PAGE: usize = 7;

/// The list, oldest first, and the lies about it.
#[derive(Debug, Default)]
pub(super) struct Settled {
    lines: Vec<SettlementLine>,
    /// Payment intents whose lines don't show.
    hidden: BTreeSet<String>,
    /// What is added to the lines of a payment intent.
    altered: BTreeMap<String, i64>,
}

impl Settled {
    /// Taken money, by the payment intent's one charge.
    pub(super) fn charge(&mut self, tag: &Tag, intent: &str, currency: Currency, amount_minor: i64) {
        let object = intent.replace("pi_", "ch_");
        let moved = Money::new(amount_minor, currency);
        self.add(LineKind::Charge, moved, (intent, &object), Some((tag.payment, tag.command)));
    }

    /// Returned money; `objects`: the payment intent and the refund.
    pub(super) fn refund(&mut self, tag: &Tag, objects: (&str, &str), currency: Currency, amount_minor: i64) {
        let moved = Money::new(-amount_minor, currency);
        self.add(LineKind::Refund, moved, objects, Some((tag.payment, tag.command)));
    }

    pub(super) fn add(
        &mut self,
        kind: LineKind,
        amount: Money,
        (intent, object): (&str, &str),
        tag: Option<(PaymentId, Uuid)>,
    ) {
        let now = OffsetDateTime::now_utc();
        self.lines.push(SettlementLine {
            id: format!("txn_{:06}", self.lines.len() + 1),
            kind,
            amount,
            created: now.replace_nanosecond(0).unwrap_or(now),
            object: object.to_owned(),
            payment_intent: Some(intent.to_owned()),
            payment: tag.map(|(payment, _)| payment),
            command: tag.map(|(_, command)| command),
        });
    }

    pub(super) fn page(&self, within: &Range<OffsetDateTime>, after: Option<&str>) -> SettlementPage {
        let shown = self.lines.iter().rev().filter(|line| {
            let hidden = line.payment_intent.as_ref().is_some_and(|intent| self.hidden.contains(intent));
            within.contains(&line.created) && !hidden && after.is_none_or(|after| line.id.as_str() < after)
        });
        let mut lines: Vec<SettlementLine> = shown.take(PAGE + 1).cloned().collect();
        let more = lines.len() > PAGE;
        lines.truncate(PAGE);
        for line in &mut lines {
            let intent = line.payment_intent.as_deref().unwrap_or_default();
            line.amount.minor += self.altered.get(intent).copied().unwrap_or_default();
        }
        let next = lines.last().filter(|_| more).map(|line| line.id.clone());
        SettlementPage { lines, unread: Vec::new(), next }
    }
}

/// What the list says of a payment intent.
impl Memory {
    /// Keeps its lines from the list.
    pub fn hide(&self, intent: &str) {
        self.state().settled.hidden.insert(intent.to_owned());
    }

    /// Shows them again: they come late.
    pub fn show(&self, intent: &str) {
        self.state().settled.hidden.remove(intent);
    }

    /// Adds this to the amounts of its lines, which is not what happened; 0 ends that.
    pub fn alter(&self, intent: &str, delta_minor: i64) {
        self.state().settled.altered.insert(intent.to_owned(), delta_minor);
    }

    /// Makes all its lines older.
    pub fn age_lines(&self, by: time::Duration) {
        for line in &mut self.state().settled.lines {
            line.created -= by;
        }
    }
}
