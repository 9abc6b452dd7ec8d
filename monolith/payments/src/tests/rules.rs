//! The pure rules, under any sequence of commands.

use proptest::prelude::*;
use proto::{Money, OrderId};

use super::*;
use crate::{CaptureMethod, Command, Operation, Outcome, Refusal, check, decide};

fn payment(capture_method: CaptureMethod) -> Payment {
    Payment {
        id: PaymentId::new(),
        tenant: tenant(),
        order: OrderId::new(),
        amount: Money::new(1_000, "EUR".parse().unwrap()),
        capture_method,
        payment_method: "pm_card_visa".into(),
        status: Status::Requested,
        authorized_minor: 0,
        captured_minor: 0,
        refunded_minor: 0,
        provider_ref: None,
        version: 1,
        requested_at: time::OffsetDateTime::UNIX_EPOCH,
        outcome_pending: false,
    }
}

fn command(operation: Operation, amount_minor: i64) -> Command {
    Command {
        id: Uuid::now_v7(),
        operation,
        amount_minor,
        idempotency: None,
        attempt: 1,
        actor: Actor::engine(),
        reason: None,
    }
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    let object = || "pi_1".to_owned();
    prop_oneof![
        Just(Outcome::Succeeded { object: object() }),
        Just(Outcome::RequiresCapture { object: object() }),
        Just(Outcome::Declined { object: object(), code: "card_declined".into() }),
        Just(Outcome::Canceled { object: object() }),
        Just(Outcome::Refunded { object: "re_1".into() }),
    ]
}

fn operations() -> impl Strategy<Value = Operation> {
    prop_oneof![
        Just(Operation::Charge),
        Just(Operation::Authorize),
        Just(Operation::Capture),
        Just(Operation::Void),
        Just(Operation::Refund),
    ]
}

proptest! {
    #[test]
    fn no_sequence_returns_more_than_was_taken_or_takes_more_than_was_asked(
        steps in prop::collection::vec((operations(), 1..=1_100i64, outcomes()), 1..40)
    ) {
        let mut payment = payment(CaptureMethod::Manual);
        let (mut clearing, mut ended) = (0, false);
        for (operation, amount, outcome) in steps {
            let Ok(event) = decide(&payment, &command(operation, amount), &outcome) else { continue };
            prop_assert!(!ended, "{:?} changed a payment that was {}", operation, payment.status);
            prop_assert_eq!(&decide(&payment, &event.command, &outcome).unwrap(), &event, "decide is a function");
            payment = event.payment;
            if let Some(transaction) = event.ledger {
                let sum: i64 = transaction.postings.iter().map(|line| line.amount.minor).sum();
                prop_assert_eq!(sum, 0);
                clearing += transaction.postings[0].amount.minor;
            }
            prop_assert!(payment.refunded_minor <= payment.captured_minor);
            prop_assert!(payment.captured_minor <= payment.authorized_minor);
            prop_assert!(payment.authorized_minor <= payment.amount.minor);
            prop_assert_eq!(clearing, payment.captured_minor - payment.refunded_minor);
            ended = matches!(payment.status, Status::Declined | Status::Voided | Status::Refunded);
        }
    }
}

#[test]
fn a_charge_takes_all_at_once_and_names_the_providers_object() {
    let outcome = Outcome::Succeeded { object: "pi_7".into() };
    let event =
        decide(&payment(CaptureMethod::Automatic), &command(Operation::Charge, 1_000), &outcome).unwrap();
    let after = event.payment;
    assert_eq!(
        (after.status, after.authorized_minor, after.captured_minor),
        (Status::Captured, 1_000, 1_000)
    );
    assert_eq!(after.provider_ref.as_deref(), Some("pi_7"));
}

#[test]
fn an_outcome_of_another_command_is_refused() {
    let payment = payment(CaptureMethod::Automatic);
    let refused =
        decide(&payment, &command(Operation::Charge, 1_000), &Outcome::Canceled { object: "pi_7".into() });
    assert_eq!(refused, Err(Refusal::WrongOutcome { operation: Operation::Charge, outcome: "canceled" }));
    assert_eq!(check(&payment, Operation::Charge, None), Ok(1_000));
}
