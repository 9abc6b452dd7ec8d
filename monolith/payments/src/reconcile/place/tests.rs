//! Every way in which a list can differ from the books is found by its kind, and nothing else is.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proto::{Currency, Money, PaymentId};
use time::OffsetDateTime;

use super::*;
use crate::Tenant;
use crate::reconcile::books::{Entry, adjustment_id};

fn euro() -> Currency {
    "EUR".parse().unwrap()
}

fn tenant() -> Tenant {
    "acme".parse().unwrap()
}

fn books(intent: &str, entries: &[i64]) -> Books {
    let entry =
        |minor: &i64| Entry { transaction: Uuid::now_v7(), minor: *minor, adjustment: false, line: None };
    Books {
        payment: PaymentId::new(),
        tenant: tenant(),
        currency: euro(),
        intent: Some(intent.to_owned()),
        open: false,
        authorized: false,
        version: 2,
        entries: entries.iter().map(entry).collect(),
    }
}

fn line(id: &str, kind: LineKind, minor: i64, intent: &str, command: Option<Uuid>) -> SettlementLine {
    SettlementLine {
        id: id.to_owned(),
        kind,
        amount: Money::new(minor, euro()),
        created: OffsetDateTime::UNIX_EPOCH,
        object: format!("object_of_{id}"),
        payment_intent: Some(intent.to_owned()),
        payment: None,
        command,
    }
}

fn kind(placed: &Placed) -> Option<(DifferenceKind, Option<i64>, Option<i64>)> {
    match &placed.verdict {
        Verdict::Differs(found) => Some((found.kind, found.here_minor, found.there_minor)),
        Verdict::Agrees { .. } | Verdict::Waits(_) | Verdict::NotOurs => None,
    }
}

fn adjusted(books: &mut Books, line: &str, nth: u32, minor: i64) {
    let transaction = adjustment_id(books.payment, line, nth);
    books.entries.push(Entry { transaction, minor, adjustment: true, line: None });
}

#[test]
fn a_line_is_placed_by_its_kind_its_intent_and_its_command() {
    let books = books("pi_1", &[1_000, -300]);
    let [capture, refund] = [books.entries[0].transaction, books.entries[1].transaction];
    let agrees = |entry| Placed { entry: Some(entry), verdict: Verdict::Agrees { adjusted: false } };
    let charge = |minor, intent| line("t", LineKind::Charge, minor, intent, None);
    assert_eq!(place(&charge(1_000, "pi_1"), Some(&books)), agrees(capture));
    let ours = line("t", LineKind::Refund, -300, "pi_1", Some(refund));
    assert_eq!(place(&ours, Some(&books)), agrees(refund));

    let other = place(&charge(900, "pi_1"), Some(&books));
    assert_eq!(kind(&other), Some((DifferenceKind::Amount, Some(1_000), Some(900))));
    assert_eq!(other.entry, Some(capture), "the line is there, so it is not missing too");
    let unasked = place(&charge(1_000, "pi_2"), Some(&books));
    assert_eq!(kind(&unasked), Some((DifferenceKind::MissingHere, None, Some(1_000))));
    // A refund that names the charge's command was not asked for by it.
    for command in [None, Some(capture), Some(Uuid::now_v7())] {
        let placed = place(&line("t", LineKind::Refund, -300, "pi_1", command), Some(&books));
        assert_eq!(kind(&placed), Some((DifferenceKind::MissingHere, None, Some(-300))), "{command:?}");
    }
    let unknown = place(&charge(1_000, "pi_1"), None);
    assert_eq!(kind(&unknown), Some((DifferenceKind::MissingHere, None, Some(1_000))));
    let payout = line("t", LineKind::Other, -5_000, "pi_1", None);
    assert_eq!(place(&payout, None).verdict, Verdict::NotOurs);
}

#[test]
fn an_open_command_makes_every_line_of_its_payment_wait() {
    let books = Books { open: true, ..books("pi_1", &[]) };
    for kind in [LineKind::Charge, LineKind::Refund, LineKind::RefundFailure] {
        let placed = place(&line("t", kind, 5, "pi_9", None), Some(&books));
        assert!(placed.entry.is_none() && matches!(placed.verdict, Verdict::Waits(_)), "{placed:?}");
    }
}

#[test]
fn another_currency_is_another_amount() {
    let mut books = books("pi_1", &[1_000]);
    books.currency = "USD".parse().unwrap();
    let placed = place(&line("t", LineKind::Charge, 1_000, "pi_1", None), Some(&books));
    assert_eq!(kind(&placed), Some((DifferenceKind::Amount, Some(1_000), Some(1_000))));
    let Verdict::Differs(found) = placed.verdict else { panic!() };
    assert_eq!(found.detail, "the payment is in USD");
}

#[test]
fn money_that_was_taken_twice_is_in_the_books_once() {
    let mut books = books("pi_1", &[1_000]);
    let first = place(&line("t1", LineKind::Charge, 1_000, "pi_1", None), Some(&books));
    books.answered(first.entry.unwrap(), "t1");
    let second = place(&line("t2", LineKind::Charge, 1_000, "pi_1", None), Some(&books));
    assert_eq!(kind(&second), Some((DifferenceKind::MissingHere, None, Some(1_000))));
    let again = place(&line("t1", LineKind::Charge, 1_000, "pi_1", None), Some(&books));
    assert_eq!(again, first, "the first one is still answered for");
}

#[test]
fn adjustments_belong_to_the_line_they_were_booked_for() {
    let mut books = books("pi_1", &[1_000]);
    let unasked = line("t2", LineKind::Refund, -300, "pi_1", None);
    adjusted(&mut books, "t2", 0, -200);
    assert_eq!(kind(&place(&unasked, Some(&books))), Some((DifferenceKind::Amount, Some(-200), Some(-300))));
    adjusted(&mut books, "t2", 1, -100);
    assert_eq!(place(&unasked, Some(&books)).verdict, Verdict::Agrees { adjusted: true });
    let charge = line("t1", LineKind::Charge, 1_000, "pi_1", None);
    assert_eq!(place(&charge, Some(&books)).verdict, Verdict::Agrees { adjusted: false });
}

/// What is done to a true line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    None,
    Dropped,
    Altered,
    Doubled,
}

fn lie() -> impl Strategy<Value = Lie> {
    prop_oneof![4 => Just(Lie::None), 1 => Just(Lie::Dropped), 1 => Just(Lie::Altered), 1 => Just(Lie::Doubled)]
}

proptest! {
    /// Payments with a capture and refunds; a list that tells the truth but for the lies; read in any order, cut anywhere.
    #[test]
    fn each_lie_is_found_by_its_kind_and_nothing_else_is(
        payments in prop::collection::vec(prop::collection::vec((1..1_000_i64, lie()), 1..5), 1..8),
        order in any::<u64>(), cut in 1..9_usize,
    ) {
        let mut all: BTreeMap<String, Books> = BTreeMap::new();
        let (mut lines, mut expected, mut unseen) = (Vec::new(), BTreeMap::new(), BTreeSet::new());
        for (n, moves) in payments.iter().enumerate() {
            let intent = format!("pi_{n}");
            let signed = |(at, (minor, _)): (usize, &(i64, Lie))| if at == 0 { minor + 10_000 } else { -minor };
            let of = books(&intent, &moves.iter().enumerate().map(signed).collect::<Vec<_>>());
            for (at, (entry, (_, lie))) in of.entries.iter().zip(moves).enumerate() {
                let kind = if at == 0 { LineKind::Charge } else { LineKind::Refund };
                let mut told = line(&format!("t{n}.{at}"), kind, entry.minor, &intent, Some(entry.transaction));
                match lie {
                    Lie::None => {}
                    Lie::Dropped => { unseen.insert(entry.transaction); continue; }
                    Lie::Altered => {
                        told.amount.minor -= 1;
                        expected.insert((n, at), DifferenceKind::Amount);
                    }
                    Lie::Doubled => {
                        lines.push((n, at, SettlementLine { id: format!("{}b", told.id), ..told.clone() }));
                        expected.insert((n, at), DifferenceKind::MissingHere);
                    }
                }
                lines.push((n, at, told));
            }
            all.insert(intent, of);
        }
        lines.sort_by_key(|(_, _, line)| {
            line.id.bytes().fold(order, |hash, byte| hash.wrapping_mul(0x0100_0000_01b3) ^ u64::from(byte))
        });

        let mut found = BTreeMap::new();
        for page in lines.chunks(cut) {
            for (n, at, line) in page {
                let books = all.get_mut(&format!("pi_{n}")).unwrap();
                let placed = place(line, Some(books));
                if let Some(entry) = placed.entry { books.answered(entry, &line.id); }
                if let Some((kind, ..)) = kind(&placed) {
                    prop_assert!(found.insert((*n, *at), kind).is_none(), "one difference for one lie");
                }
            }
        }
        prop_assert_eq!(found, expected);
        let silent = all.values().flat_map(|books| &books.entries).filter(|entry| entry.line.is_none());
        prop_assert_eq!(silent.map(|entry| entry.transaction).collect::<BTreeSet<_>>(), unseen);
    }
}

#[test]
fn a_line_that_was_booked_by_itself_stays_so_when_its_command_answers_for_none_any_more() {
    let mut books = books("pi_1", &[1_000, -300]);
    let command = books.entries[1].transaction;
    let second = line("t2", LineKind::Refund, -300, "pi_1", Some(command));
    let transaction = crate::reconcile::books::adjustment_id(books.payment, &second.id, 0);
    books.entries.push(Entry { transaction, minor: -300, adjustment: true, line: None });
    let placed = place(&second, Some(&books));
    assert_eq!(placed, Placed { entry: None, verdict: Verdict::Agrees { adjusted: true } });
}
