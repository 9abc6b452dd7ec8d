//! The pure rules, under any sequence of commands.

use proptest::prelude::*;
use proto::{Money, OrderId};

use super::*;
use crate::{
    Account, Adjustment, Answer, CaptureMethod, Command, Operation, Outcome, Refusal, Transaction, adjust,
    apply, check, decide, fee,
};

pub(super) fn payment() -> Payment {
    Payment {
        id: PaymentId::new(),
        tenant: tenant(),
        order: OrderId::new(),
        amount: Money::new(1_000, "EUR".parse().unwrap()),
        capture_method: CaptureMethod::Manual,
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

pub(super) fn command(operation: Operation, amount_minor: i64) -> Command {
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

pub(super) fn outcome(answer: Answer) -> Outcome {
    let object = "pi_7".to_owned();
    match answer {
        Answer::Succeeded => Outcome::Succeeded { object },
        Answer::RequiresCapture => Outcome::RequiresCapture { object },
        Answer::Declined => Outcome::Declined { object, code: "card_declined".into() },
        Answer::Canceled => Outcome::Canceled { object },
        Answer::Refunded => Outcome::Refunded { object: "re_7".into() },
    }
}

/// Something that happens to a payment, sensible or not.
#[derive(Debug, Clone)]
enum Step {
    Command(Operation, i64, Answer),
    Adjust(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let operation = prop::sample::select(Operation::ALL);
    let answer = prop::sample::select(Answer::ALL);
    // Often all there is, or nearly; sometimes more than there is, or nothing.
    let amount = prop_oneof![Just(1_000i64), Just(600), -1..=1_001i64, 1..=40i64];
    let command = (operation, amount, answer)
        .prop_map(|(operation, amount, answer)| Step::Command(operation, amount, answer));
    // Most answers belong to what was asked; else hardly any history gets anywhere.
    let fitting = (prop::sample::select(&crate::TRANSITIONS[..]), prop_oneof![Just(1_000i64), 1..=400i64])
        .prop_map(|(row, amount)| Step::Command(row.operation, amount, row.answer));
    let adjust = (-500..=500i64).prop_map(Step::Adjust);
    prop::collection::vec(prop_oneof![3 => command, 8 => fitting, 1 => adjust], 1..40)
}

/// What the books must say of a payment, from its state, its only capture and its adjustments.
fn expected(payment: &Payment, adjusted: i64) -> [(Account, i64); 4] {
    let captured = Money::new(payment.captured_minor, payment.amount.currency);
    let fee = fee(captured).unwrap().minor;
    [
        (Account::Receivable, -adjusted),
        (Account::Clearing, payment.captured_minor - payment.refunded_minor + adjusted),
        (Account::Payable, -(payment.captured_minor - fee) + payment.refunded_minor),
        (Account::Fees, -fee),
    ]
}

fn balance(books: &[Transaction], account: Account) -> i64 {
    let lines = books.iter().flat_map(|transaction| &transaction.postings);
    lines.filter(|line| line.account == account).map(|line| line.amount.minor).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_history_keeps_state_and_books_in_line(steps in steps()) {
        let mut payment = payment();
        let (mut books, mut adjusted) = (Vec::new(), 0);
        for step in steps {
            let before = payment.clone();
            match step {
                Step::Command(operation, amount, answer) => {
                    let (command, outcome) = (command(operation, amount), outcome(answer));
                    let Ok(event) = decide(&payment, &command, &outcome) else { continue };
                    prop_assert_eq!(&decide(&payment, &command, &outcome).unwrap(), &event, "decide is a function");
                    payment = apply(&payment, &event).unwrap();
                    prop_assert_eq!(&payment, &Payment { version: before.version + 1, ..event.payment });
                    prop_assert!(crate::TRANSITIONS.iter().any(|row| (row.from, row.operation, row.answer, row.to)
                        == (before.status, operation, answer, payment.status)));
                    books.extend(event.ledger);
                }
                Step::Adjust(delta_minor) => {
                    let (object, reason) = ("ch_7".into(), "found".into());
                    let adjustment = Adjustment { id: Uuid::now_v7(), delta_minor, object, payment_intent: None, reason };
                    let Ok(event) = adjust(&payment, &adjustment) else { continue };
                    prop_assert_eq!(&event.payment, &payment);
                    books.push(event.ledger);
                    adjusted += delta_minor;
                }
            }
            let ended = matches!(before.status, Status::Declined | Status::Voided | Status::Refunded);
            prop_assert!(!ended || payment == before, "{:?} was final", before);
            prop_assert!((0..=payment.captured_minor).contains(&payment.refunded_minor));
            prop_assert!((0..=payment.authorized_minor).contains(&payment.captured_minor));
            prop_assert!((0..=payment.amount.minor).contains(&payment.authorized_minor));
            prop_assert_eq!(payment.status == Status::Refunded,
                payment.captured_minor > 0 && payment.refunded_minor == payment.captured_minor);
            for transaction in &books {
                prop_assert!(transaction.postings.len() >= 2);
                prop_assert_eq!(transaction.postings.iter().map(|line| line.amount.minor).sum::<i64>(), 0);
            }
            for (account, minor) in expected(&payment, adjusted) {
                prop_assert_eq!(balance(&books, account), minor, "{:?}", account);
            }
        }
    }
}

#[test]
fn a_charge_takes_all_at_once_and_names_the_providers_object() {
    let outcome = Outcome::Succeeded { object: "pi_7".into() };
    let event = decide(&payment(), &command(Operation::Charge, 1_000), &outcome).unwrap();
    let after = event.payment;
    assert_eq!(
        (after.status, after.authorized_minor, after.captured_minor),
        (Status::Captured, 1_000, 1_000)
    );
    assert_eq!(after.provider_ref.as_deref(), Some("pi_7"));
}

#[test]
fn an_outcome_of_another_command_is_refused() {
    let payment = payment();
    let refused =
        decide(&payment, &command(Operation::Charge, 1_000), &Outcome::Canceled { object: "pi_7".into() });
    assert_eq!(refused, Err(Refusal::WrongOutcome { operation: Operation::Charge, outcome: "canceled" }));
    assert_eq!(check(&payment, Operation::Charge, None), Ok(1_000));
}
