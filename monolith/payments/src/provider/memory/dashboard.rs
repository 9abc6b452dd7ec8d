//! What people do in the provider's dashboard, behind our back.

use proto::{Money, PaymentId};
use uuid::Uuid;

use super::{Memory, Movement};
use crate::provider::{LineKind, NewIntent, Object, ObjectStatus, RefundObject, RefundStatus, Tag};
use crate::{CaptureMethod, Operation, Tenant};

impl Memory {
    /// Takes money for a payment by a payment intent that nobody asked for; returns that.
    pub fn charge_unasked(&self, tenant: &Tenant, payment: PaymentId, amount: Money) -> String {
        let tag =
            Tag { tenant: tenant.clone(), payment, operation: Operation::Charge, command: Uuid::now_v7() };
        let mut state = self.state();
        let new = NewIntent {
            amount,
            capture_method: CaptureMethod::Automatic,
            payment_method: "pm_card_visa".to_owned(),
            tag: tag.clone(),
        };
        let id = format!("pi_{}", state.intents.len() + 1);
        let status = ObjectStatus::Succeeded;
        let object =
            Object { id: id.clone(), status, received_minor: amount.minor, decline_code: String::new() };
        state.intents.insert(id.clone(), (new, object));
        state.journal.push(Movement { payment, operation: Operation::Charge, amount_minor: amount.minor });
        state.settled.charge(&tag, &id, amount.currency, amount.minor);
        id
    }

    /// Returns money of a payment intent, without a tag; returns the refund's id.
    pub fn refund_unasked(&self, intent: &str, amount: Money) -> String {
        let mut state = self.state();
        let id = format!("re_{}", state.refunds.len() + 1);
        let (command, amount_minor, status) = (None, amount.minor, RefundStatus::Succeeded);
        let made = RefundObject { id: id.clone(), command, amount_minor, status };
        state.refunds.push((intent.to_owned(), made));
        let payment = state.intents.get(intent).map(|(new, _)| new.tag.payment);
        state.journal.extend(payment.map(|payment| Movement {
            payment,
            operation: Operation::Refund,
            amount_minor,
        }));
        let moved = Money::new(-amount.minor, amount.currency);
        state.settled.add(LineKind::Refund, moved, (intent, &id), None);
        id
    }

    /// Lets a refund fail after it was made: its money comes back, on a line of its own.
    pub fn fail_refund(&self, refund: &str, amount: Money) {
        let mut state = self.state();
        let found = state.refunds.iter_mut().find(|(_, made)| made.id == refund);
        let intent = found.map(|(intent, made)| {
            made.status = RefundStatus::Failed;
            intent.clone()
        });
        state.settled.add(LineKind::RefundFailure, amount, (&intent.unwrap_or_default(), refund), None);
    }

    /// Lets a payment intent say that it received another amount.
    pub fn received(&self, intent: &str, minor: i64) {
        if let Some((_, object)) = self.state().intents.get_mut(intent) {
            object.received_minor = minor;
        }
    }

    /// Shows the charge of a payment intent twice: it was taken twice.
    pub fn charge_again(&self, intent: &str) {
        let mut state = self.state();
        let Some((new, _)) = state.intents.get(intent) else { return };
        let (tag, amount) = (new.tag.clone(), new.amount);
        let payment = tag.payment;
        state.journal.push(Movement { payment, operation: Operation::Charge, amount_minor: amount.minor });
        state.settled.charge(&tag, intent, amount.currency, amount.minor);
    }
}
