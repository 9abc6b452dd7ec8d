//! The table of transitions: everything goes by it, and the docs show it.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::rules::{command, outcome, payment};
use super::*;
use crate::{Answer, Operation, Refusal, Share, TRANSITIONS, Transition, apply, check, decide};

const UPDATE: &str = "cargo test -p payments write_the_page -- --ignored";
const BEGIN: &str = "<!-- transitions: begin -->\n";
const END: &str = "<!-- transitions: end -->";

/// A payment of 1,000 in a status: 800 reserved by hand, 600 taken, 200 returned, as far as it came.
fn payment_in(status: Status) -> Payment {
    let (authorized_minor, captured_minor, refunded_minor) = match status {
        Status::Requested | Status::Declined => (0, 0, 0),
        Status::Authorized | Status::Voided => (800, 0, 0),
        Status::Captured => (800, 600, 200),
        Status::Refunded => (800, 600, 600),
    };
    let provider_ref = (authorized_minor > 0).then(|| "pi_7".to_owned());
    Payment { status, authorized_minor, captured_minor, refunded_minor, provider_ref, ..payment() }
}

fn available(operation: Operation, payment: &Payment) -> i64 {
    match operation {
        Operation::Charge | Operation::Authorize => 1_000,
        Operation::Capture | Operation::Void => payment.authorized_minor,
        Operation::Refund => payment.captured_minor - payment.refunded_minor,
    }
}

fn row(from: Status, operation: Operation, answer: Answer, share: Share) -> Option<&'static Transition> {
    let is = |step: &&Transition| (step.from, step.operation, step.answer) == (from, operation, answer);
    TRANSITIONS.iter().filter(is).find(|step| step.share == share || step.share == Share::Any)
}

#[test]
fn every_status_operation_answer_and_share_goes_by_the_table_and_the_rest_is_refused() {
    let mut legal = 0;
    for from in Status::ALL {
        for operation in Operation::ALL {
            for answer in Answer::ALL {
                let before = payment_in(*from);
                let all = available(*operation, &before);
                for (asked, share) in [(all, Share::Whole), (all - 1, Share::Part)] {
                    let row = row(*from, *operation, *answer, share);
                    legal += usize::from(row.is_some());
                    goes_by(row, &before, *operation, *answer, asked);
                }
                for asked in [all + 1, 0, -1, i64::MIN, i64::MAX] {
                    goes_by(None, &before, *operation, *answer, asked);
                }
            }
        }
    }
    // Each row was met, `Any` as the whole and as a part.
    assert_eq!(legal, TRANSITIONS.len() + 1);
}

fn goes_by(row: Option<&Transition>, before: &Payment, operation: Operation, answer: Answer, asked: i64) {
    let (command, outcome) = (command(operation, asked), outcome(answer));
    let decided = decide(before, &command, &outcome);
    let at = format!("{} {operation} {answer:?} {asked}", before.status);
    let Some(row) = row else {
        decided.expect_err(&at);
        return;
    };
    let event = decided.expect(&at);
    assert_eq!((event.change, event.payment.status), (row.change, row.to), "{at}");
    assert_eq!(check(before, operation, Some(asked)), Ok(asked), "{at}");
    assert_eq!(event.payment.version, before.version, "{at}");
    let after = Payment { version: before.version + 1, ..event.payment.clone() };
    assert_eq!(apply(before, &event), Ok(after), "{at}");
}

#[test]
fn a_refusal_says_what_was_wrong() {
    let authorized = payment_in(Status::Authorized);
    let refusal = |payment: &Payment, operation, asked, answer| {
        decide(payment, &command(operation, asked), &outcome(answer)).unwrap_err()
    };
    assert_eq!(
        refusal(&authorized, Operation::Refund, 1, Answer::Refunded),
        Refusal::IllegalTransition { status: Status::Authorized, operation: Operation::Refund }
    );
    assert_eq!(
        refusal(&authorized, Operation::Capture, 801, Answer::Succeeded),
        Refusal::AmountTooLarge { asked: 801, available: 800 }
    );
    assert_eq!(
        refusal(&authorized, Operation::Void, 799, Answer::Canceled),
        Refusal::AmountNotAllowed { operation: Operation::Void, asked: 799, available: 800 }
    );
    assert_eq!(
        refusal(&authorized, Operation::Void, 800, Answer::Succeeded),
        Refusal::WrongOutcome { operation: Operation::Void, outcome: "succeeded" }
    );
}

#[test]
fn no_row_says_two_things_and_none_leaves_a_final_status() {
    for (at, one) in TRANSITIONS.iter().enumerate() {
        for other in &TRANSITIONS[at + 1..] {
            let same = (one.from, one.operation, one.answer) == (other.from, other.operation, other.answer);
            let apart = one.share != other.share && one.share != Share::Any && other.share != Share::Any;
            assert!(!same || apart, "{one:?} and {other:?}");
        }
    }
    let last = |status: &&Status| TRANSITIONS.iter().all(|step| step.from != **status);
    let last: Vec<_> = Status::ALL.iter().filter(last).collect();
    assert_eq!(last, [&Status::Declined, &Status::Voided, &Status::Refunded]);
}

/// The diagram and the rows, as the docs show them.
fn drawn() -> String {
    let mut page = "```mermaid\nstateDiagram-v2\n    [*] --> requested\n".to_owned();
    for Transition { from, operation, answer, share, to, .. } in &TRANSITIONS {
        let of = match share {
            Share::Part => " in part",
            Share::Whole | Share::Any => "",
        };
        writeln!(page, "    {from} --> {to}: {operation}{of}, {}", answer.word()).unwrap();
    }
    for status in Status::ALL.iter().filter(|status| TRANSITIONS.iter().all(|step| step.from != **status)) {
        writeln!(page, "    {status} --> [*]").unwrap();
    }
    page += "```\n\n| in status | asked | how much | the provider says | becomes | event |\n|---|---|---|---|---|---|\n";
    for Transition { from, operation, answer, share, to, change } in &TRANSITIONS {
        let share = match share {
            Share::Whole => "all",
            Share::Part => "a part",
            Share::Any => "all or a part",
        };
        let answer = answer.word();
        writeln!(page, "| {from} | {operation} | {share} | {answer} | {to} | `Payment{change:?}` |").unwrap();
    }
    page
}

fn page() -> (PathBuf, String) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/payments.md");
    let text = std::fs::read_to_string(&path).unwrap();
    (path, text)
}

#[test]
fn the_page_shows_the_table() {
    let (path, text) = page();
    let shown = text.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).map(|(shown, _)| shown);
    assert_eq!(shown, Some(&*drawn()), "{} is out of date: run `{UPDATE}`", path.display());
}

/// Writes what [`the_page_shows_the_table`] compares.
#[test]
#[ignore = "writes docs/payments.md"]
fn write_the_page() {
    let (path, text) = page();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    std::fs::write(path, format!("{before}{BEGIN}{}{END}{after}", drawn())).unwrap();
}
