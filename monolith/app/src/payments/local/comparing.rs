//! Payments of two homes: how each is read, what differs between them, and what a caller has seen.

use std::sync::Arc;

use ::payments::{CaptureMethod, Desk, Error, Payment, Status, Tenant};
use chassis::card;
use proto::{Currency, Money, PaymentId};
use strangler::{Comparable, Difference, Reading};

/// A payment as a caller is shown it. Whether an outcome is pending is left out: only the owner knows its open commands.
#[derive(Debug, Clone)]
pub(crate) struct Shown(pub(crate) Payment);

/// Reads a payment at a home as its owner or as a copy.
pub(crate) async fn read(
    home: Arc<dyn Desk>,
    tenant: Tenant,
    id: PaymentId,
    reading: Reading,
) -> Result<Shown, Error> {
    let found = match reading {
        Reading::Owner => home.find(&tenant, id).await,
        Reading::Copy { at_least } => home.find_copy(&tenant, id, at_least).await,
    };
    found.map(Shown)
}

/// The version that a command's answer has shown its caller. While an outcome is pending only the owner knows of that, so a copy may
/// answer again from the version on that the outcome makes.
pub(crate) fn version_shown(answer: &Result<Payment, Error>) -> Option<i64> {
    match answer {
        Ok(done) => Some(done.version),
        Err(Error::OutcomePending(open)) => Some(open.version.saturating_add(1)),
        Err(_) => None,
    }
}

/// What is neither money nor the owner's alone.
fn facts(payment: &Payment) -> impl PartialEq + use<> {
    (
        (payment.id, payment.order, payment.tenant.clone(), payment.requested_at),
        (
            payment.capture_method,
            payment.payment_method.clone(),
            payment.status,
            payment.provider_ref.clone(),
        ),
    )
}

fn money(payment: &Payment) -> (Money, [i64; 3]) {
    (payment.amount, [payment.authorized_minor, payment.captured_minor, payment.refunded_minor])
}

impl Comparable for Shown {
    fn version(&self) -> i64 {
        self.0.version
    }

    fn compare(&self, Self(other): &Self) -> Difference {
        if money(&self.0) != money(other) {
            Difference::Money
        } else if facts(&self.0) != facts(other) {
            Difference::Structure
        } else {
            Difference::Equal
        }
    }

    fn mutants(&self) -> Vec<Self> {
        let Self(payment) = self;
        let more = |minor: i64| minor.saturating_add(1);
        let cent = Money { minor: more(payment.amount.minor), ..payment.amount };
        let status = if payment.status == Status::Captured { Status::Authorized } else { Status::Captured };
        let capture_method = match payment.capture_method {
            CaptureMethod::Automatic => CaptureMethod::Manual,
            CaptureMethod::Manual => CaptureMethod::Automatic,
        };
        let other_currency = ["EUR", "USD"].into_iter().filter_map(|code| code.parse::<Currency>().ok());
        let other_currency = other_currency.filter(|currency| *currency != payment.amount.currency);
        let mut mutants = vec![
            Payment { amount: cent, ..payment.clone() },
            Payment { authorized_minor: more(payment.authorized_minor), ..payment.clone() },
            Payment { captured_minor: more(payment.captured_minor), ..payment.clone() },
            Payment { refunded_minor: more(payment.refunded_minor), ..payment.clone() },
            Payment { status, ..payment.clone() },
            Payment { capture_method, ..payment.clone() },
        ];
        mutants.extend(
            other_currency
                .take(1)
                .map(|currency| Payment { amount: Money { currency, ..payment.amount }, ..payment.clone() }),
        );
        mutants.into_iter().map(Self).collect()
    }

    fn shown(&self) -> String {
        let Self(payment) = self;
        let text = format!(
            "version {}: {}, {} {} by {} ({}), {} authorized, {} captured, {} refunded, order {} of {}, requested at {}, \
             provider's {}",
            payment.version,
            payment.status,
            payment.amount.minor,
            payment.amount.currency,
            payment.payment_method,
            payment.capture_method.word(),
            payment.authorized_minor,
            payment.captured_minor,
            payment.refunded_minor,
            payment.order,
            payment.tenant,
            payment.requested_at,
            payment.provider_ref.as_deref().unwrap_or("none"),
        );
        card::mask(&text).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use proto::OrderId;
    use time::OffsetDateTime;

    use super::*;

    fn payment() -> Shown {
        Shown(Payment {
            id: PaymentId::new(),
            tenant: "acme".parse().unwrap(),
            order: OrderId::new(),
            amount: Money { minor: 1_290, currency: "EUR".parse().unwrap() },
            capture_method: CaptureMethod::Automatic,
            payment_method: "pm_card_visa".into(),
            status: Status::Captured,
            authorized_minor: 1_290,
            captured_minor: 1_290,
            refunded_minor: 100,
            provider_ref: Some("pi_1".into()),
            version: 3,
            requested_at: OffsetDateTime::UNIX_EPOCH,
            outcome_pending: false,
        })
    }

    #[test]
    fn each_wrong_answer_is_found() {
        let source = payment();
        assert_eq!(source.compare(&source.clone()), Difference::Equal);
        let found: Vec<_> = source.mutants().iter().map(|mutant| source.compare(mutant)).collect();
        let count = |difference| found.iter().filter(|it| **it == difference).count();
        assert_eq!((found.len(), count(Difference::Money), count(Difference::Structure)), (7, 5, 2));
    }

    #[test]
    fn an_open_command_is_the_owners_alone() {
        let source = payment();
        let pending = Shown(Payment { outcome_pending: true, ..source.0.clone() });
        assert_eq!(source.compare(&pending), Difference::Equal);
    }

    #[test]
    fn a_sample_holds_no_card_number() {
        let mut source = payment();
        source.0.payment_method = "4111 1111 1111 1111".into();
        let text = source.shown();
        assert!(text.contains("version 3: captured, 1290 EUR") && !text.contains("1111"), "{text}");
    }
}
