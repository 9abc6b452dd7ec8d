//! The checker sees each break: one picture where all is well, and one change to it per test.

use std::collections::{BTreeMap, HashMap};

use outbox::Event as _;
use prost::Message;
use proto::events::{self, PaymentCaptured, PaymentRequested, PaymentState, PaymentStatus};

use super::*;
use crate::kafka::Record;

const ORDER: &str = "0198c5f2-0000-7000-8000-000000000001";
const PAYMENT: &str = "0198c5f2-0000-7000-8000-000000000002";

fn record(topic: &str, key: &str, version: i64, kind: &str, payload: Vec<u8>) -> Record {
    let headers = [
        ("ce_id", format!("{topic}-{version}")),
        ("ce_type", kind.to_owned()),
        ("banyan-version", version.to_string()),
    ];
    let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Record { topic: topic.into(), partition: 0, offset: version, key: key.into(), payload, headers }
}

fn committed(record: &Record) -> Event {
    let id = record.header("ce_id").to_owned();
    Event { id, topic: record.topic.clone(), key: record.key.clone(), version: record.version() }
}

fn records() -> Vec<Record> {
    let state = PaymentState {
        payment_id: PAYMENT.into(),
        status: PaymentStatus::Captured as i32,
        captured_minor: 500,
        ..PaymentState::default()
    };
    let captured = PaymentCaptured { state: Some(state), ..PaymentCaptured::default() }.encode_to_vec();
    let paid = events::OrderPaid { order_id: ORDER.into(), ..events::OrderPaid::default() }.encode_to_vec();
    vec![
        record("orders.v1", ORDER, 1, events::OrderPlaced::KIND, Vec::new()),
        record("orders.v1", ORDER, 2, events::OrderPaid::KIND, paid),
        record("payments.v1", PAYMENT, 1, PaymentRequested::KIND, Vec::new()),
        record("payments.v1", PAYMENT, 2, PaymentCaptured::KIND, captured),
    ]
}

fn posting(account: &str, amount_minor: i64) -> Posting {
    Posting {
        payment_id: PAYMENT.into(),
        transaction_id: "t".into(),
        account: account.into(),
        amount_minor,
        currency: "EUR".into(),
    }
}

fn home() -> Home {
    let payment = Payment {
        id: PAYMENT.into(),
        tenant: "acme".into(),
        order_id: ORDER.into(),
        status: "captured".into(),
        amount_minor: 500,
        currency: "EUR".into(),
        captured_minor: 500,
        refunded_minor: 0,
        version: 2,
    };
    Home {
        payments: BTreeMap::from([(PAYMENT.to_owned(), payment)]),
        postings: vec![posting("clearing", 500), posting("fees", -10), posting("payable", -490)],
        ..Home::default()
    }
}

fn charge() -> Movement {
    let tags = [("payment_id", PAYMENT), ("operation", "charge"), ("command_id", "c1")];
    Movement {
        kind: "charge".into(),
        amount: 500,
        currency: "eur".into(),
        idempotency_key: Some(format!("{PAYMENT}:charge:c1:1")),
        metadata: tags.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
    }
}

fn well() -> Evidence {
    let records = records();
    let order = Order {
        id: ORDER.into(),
        payment_id: PAYMENT.into(),
        status: "paid".into(),
        total_minor: 500,
        currency: "EUR".into(),
    };
    Evidence {
        accepted: vec![Accepted { order: ORDER.into(), payment: PAYMENT.into(), ends: Ended::Paid }],
        orders: BTreeMap::from([(ORDER.to_owned(), order)]),
        receipts: HashMap::from([((PAYMENT.to_owned(), "payment".to_owned()), 1)]),
        source: Home { events: records.iter().map(committed).collect(), ..home() },
        target: home(),
        records,
        movements: vec![charge()],
        ..Evidence::default()
    }
}

/// Breaks the picture and returns the named finding's first key.
fn broken(change: impl FnOnce(&mut Evidence), finding: impl FnOnce(&Findings) -> &Broken) -> String {
    let mut evidence = well();
    change(&mut evidence);
    let findings = check(&evidence);
    assert!(!findings.holds(), "{findings}");
    finding(&findings).keys().next().unwrap_or_else(|| panic!("not found:\n{findings}")).to_owned()
}

#[test]
fn a_world_at_rest_holds() {
    let findings = check(&well());
    assert!(findings.holds(), "{findings}");
    assert_eq!((findings.accepted, findings.paid, findings.declined), (1, 1, 0));
}

#[test]
fn no_data_is_no_pass() {
    let findings = check(&Evidence::default());
    assert!(!findings.holds() && !findings.books_balanced());
}

#[test]
fn an_acknowledged_order_that_is_gone_is_lost() {
    assert_eq!(broken(|e| e.orders.clear(), |f| &f.lost), ORDER);
}

#[test]
fn an_order_that_differs_from_its_payment_is_lost() {
    let unpaid = |e: &mut Evidence| e.orders.get_mut(ORDER).unwrap().status = "cancelled".into();
    assert_eq!(broken(unpaid, |f| &f.lost), ORDER);
    let declined = |e: &mut Evidence| e.accepted[0].ends = Ended::Cancelled;
    assert_eq!(broken(declined, |f| &f.lost), ORDER);
    let moved = |e: &mut Evidence| drop(e.owners.insert(PAYMENT.into(), "target".into()));
    let gone = |e: &mut Evidence| {
        moved(e);
        e.target.payments.clear();
    };
    assert_eq!(broken(gone, |f| &f.lost), ORDER);
}

#[test]
fn a_consumer_that_missed_or_repeated_an_event_is_found() {
    assert_eq!(broken(|e| e.receipts.clear(), |f| &f.lost), ORDER);
    let twice = |e: &mut Evidence| e.receipts.values_mut().for_each(|times| *times = 2);
    assert_eq!(broken(twice, |f| &f.lost), ORDER);
}

#[test]
fn a_payment_under_way_is_open() {
    let unknown = |e: &mut Evidence| e.source.unknown.push(PAYMENT.into());
    assert_eq!(broken(unknown, |f| &f.open), ORDER);
    let placed = |e: &mut Evidence| e.orders.get_mut(ORDER).unwrap().status = "placed".into();
    assert_eq!(broken(placed, |f| &f.open), ORDER);
}

#[test]
fn a_second_charge_is_found_by_command_and_by_amount() {
    assert_eq!(broken(|e| e.movements.push(charge()), |f| &f.charged_twice), PAYMENT);
    let other = |e: &mut Evidence| {
        let mut second = charge();
        second.metadata.insert("command_id".into(), "c2".into());
        e.movements.push(second);
    };
    assert_eq!(broken(other, |f| &f.charged_twice), PAYMENT);
}

#[test]
fn a_command_that_is_done_twice_under_one_key_is_found_in_both_homes() {
    let done = |key: &str| Done { payment_id: PAYMENT.into(), operation: "refund".into(), key: key.into() };
    let mut evidence = well();
    evidence.source.done = vec![done("r1"), done("r2"), Done { operation: "capture".into(), ..done("r1") }];
    let findings = check(&evidence);
    assert!(findings.holds(), "{findings}");
    assert_eq!(broken(|e| e.target.done = vec![done("r1"), done("r1")], |f| &f.charged_twice), PAYMENT);
    let in_both = |e: &mut Evidence| {
        e.source.done.push(done("r1"));
        e.target.done.push(done("r1"));
    };
    assert_eq!(broken(in_both, |f| &f.charged_twice), PAYMENT);
}

#[test]
fn money_that_only_the_provider_knows_unbalances_the_books() {
    assert_eq!(broken(|e| e.movements.clear(), |f| &f.books), PAYMENT);
    assert_eq!(broken(|e| e.source.postings[1].amount_minor = -11, |f| &f.books), PAYMENT);
}

#[test]
fn money_that_nobody_asked_for_is_accepted_once_it_is_adjusted() {
    let mut evidence = well();
    let tags = BTreeMap::from([("payment_id".to_owned(), PAYMENT.to_owned())]);
    evidence.movements.push(Movement { amount: 70, idempotency_key: None, metadata: tags, ..charge() });
    assert!(!check(&evidence).books.is_empty());
    for home in [&mut evidence.source, &mut evidence.target] {
        let line = |account, minor| Posting { transaction_id: "a".into(), ..posting(account, minor) };
        home.postings.extend([line("clearing", 70), line("receivable", -70)]);
    }
    let findings = check(&evidence);
    assert!(findings.holds(), "{findings}");
    // As much as was adjusted, and no more.
    evidence.movements.push(Movement { amount: 1, ..evidence.movements[1].clone() });
    assert!(!check(&evidence).charged_twice.is_empty());
}

#[test]
fn a_refund_that_came_back_is_money_that_was_not_returned() {
    let tags = BTreeMap::from([("payment_id".to_owned(), PAYMENT.to_owned())]);
    let by_hand = |kind: &str| Movement {
        kind: kind.into(),
        amount: 200,
        idempotency_key: None,
        metadata: tags.clone(),
        ..charge()
    };
    let mut evidence = well();
    evidence.movements.push(by_hand("refund"));
    assert!(!check(&evidence).charged_twice.is_empty(), "nobody asked for it");
    evidence.movements.push(by_hand("refund_failure"));
    let findings = check(&evidence);
    assert!(findings.holds(), "{findings}");
    assert_eq!(broken(|e| e.movements.push(by_hand("refund_failure")), |f| &f.books), PAYMENT);
}

#[test]
fn a_movement_of_an_unknown_kind_is_an_error() {
    let line = |kind: &str| format!(r#"{{"seq":1,"kind":"{kind}","amount":5,"currency":"eur"}}"#);
    for kind in ["charge", "authorization", "capture", "cancel", "refund", "refund_failure", "decline"] {
        assert!(journal::movement(&line(kind)).unwrap().is_some(), "{kind}");
    }
    assert!(journal::movement(r#"{"seq":1,"delivered":["evt_1"]}"#).unwrap().is_none());
    assert!(journal::movement(&line("refound")).is_err());
    assert!(journal::movement(r#"{"seq":1,"kind":"charge"}"#).is_err(), "it has no amount");
}

#[test]
fn a_committed_event_must_be_in_the_topic() {
    let forgotten = |e: &mut Evidence| drop(e.records.remove(1));
    assert_eq!(broken(forgotten, |f| &f.events_lost), format!("orders.v1/{ORDER}"));
}

#[test]
fn a_record_must_have_been_committed() {
    let invented = |e: &mut Evidence| drop(e.source.events.pop());
    assert_eq!(broken(invented, |f| &f.events_lost), format!("payments.v1/{PAYMENT}"));
}

#[test]
fn versions_must_come_in_order() {
    let swapped = |e: &mut Evidence| e.records.swap(2, 3);
    assert_eq!(broken(swapped, |f| &f.events_out_of_order), format!("payments.v1/{PAYMENT}"));
    let two_owners = |e: &mut Evidence| {
        let mut other = e.records[3].clone();
        other.headers.insert("ce_id".into(), "another".into());
        e.source.events.push(committed(&other));
        e.records.push(other);
    };
    assert_eq!(broken(two_owners, |f| &f.events_out_of_order), format!("payments.v1/{PAYMENT}"));
}

#[test]
fn a_repeat_is_no_disorder() {
    let mut evidence = well();
    evidence.records.insert(3, evidence.records[2].clone());
    evidence.records.push(evidence.records[2].clone());
    let findings = check(&evidence);
    assert!(findings.holds(), "{findings}");
}

#[test]
fn replicas_must_be_equal() {
    let behind = |e: &mut Evidence| e.target.payments.get_mut(PAYMENT).unwrap().version = 1;
    assert_eq!(broken(behind, |f| &f.parity), PAYMENT);
    let elsewhere = |e: &mut Evidence| e.target.postings.clear();
    assert_eq!(broken(elsewhere, |f| &f.parity), PAYMENT);
}

fn kept(key: &str, answer: &str, is_shared: bool) -> Kept {
    Kept {
        payment_id: PAYMENT.into(),
        operation: "refund".into(),
        key: key.into(),
        fingerprint: "f".into(),
        command_id: "c2".into(),
        answer: answer.into(),
        is_shared,
    }
}

#[test]
fn answers_must_be_equal() {
    let with = |e: &mut Evidence, source: Vec<Kept>, target: Vec<Kept>| {
        (e.source.answers, e.target.answers) = (source, target);
    };
    let (done, refused) = (kept("r1", "3 d41d", true), kept("r2", "charge_disputed", false));
    let mut evidence = well();
    // A refusal has no event; and the owner forgets first.
    with(&mut evidence, vec![done.clone(), refused], vec![done.clone(), kept("r3", "2 d41d", true)]);
    let findings = check(&evidence);
    assert!(findings.holds(), "{findings}");
    for other in [
        kept("r1", "4 d41d", true),
        kept("r1", "charge_disputed", false),
        Kept { fingerprint: "g".into(), ..done.clone() },
        Kept { command_id: "c3".into(), ..done.clone() },
        kept("r4", "3 d41d", true),
    ] {
        let differ = |e: &mut Evidence| with(e, vec![done.clone()], vec![other]);
        assert_eq!(broken(differ, |f| &f.parity), PAYMENT);
    }
    // The service's payment: now the source is the one that lacks it.
    let moved = |e: &mut Evidence| {
        e.owners.insert(PAYMENT.into(), "target".into());
        e.target.answers.push(done.clone());
    };
    assert_eq!(broken(moved, |f| &f.parity), PAYMENT);
}

#[test]
fn what_waits_in_an_inbox_is_no_pass() {
    let mut evidence = well();
    evidence.target.waiting.push("parked".into());
    assert!(!check(&evidence).holds());
}

/// Requested and captured before there was a log, which has its whole since then.
fn older() -> Evidence {
    let mut evidence = well();
    let state = PaymentState {
        payment_id: PAYMENT.into(),
        status: PaymentStatus::Captured as i32,
        captured_minor: 500,
        ..PaymentState::default()
    };
    let whole = events::PaymentSnapshot { state: Some(state), ..events::PaymentSnapshot::default() };
    let whole = record("payments.v1", PAYMENT, 3, events::PaymentSnapshot::KIND, whole.encode_to_vec());
    evidence.source.events = vec![committed(&whole)];
    evidence.records = vec![whole];
    evidence.receipts.clear();
    for home in [&mut evidence.source, &mut evidence.target] {
        home.payments.get_mut(PAYMENT).unwrap().version = 3;
    }
    evidence.older = HashMap::from([(ORDER.to_owned(), 2), (PAYMENT.to_owned(), 2)]);
    evidence
}

#[test]
fn a_stream_that_is_older_than_the_log_goes_on_where_it_was_found() {
    let findings = check(&older());
    assert!(findings.holds(), "{findings}");
    let untold = Evidence { older: HashMap::new(), ..older() };
    let findings = check(&untold);
    assert_eq!((findings.lost.count(), findings.events_out_of_order.count()), (1, 1), "{findings}");
    let mut between = older();
    between.older.insert(PAYMENT.to_owned(), 1);
    assert_eq!(check(&between).events_out_of_order.count(), 1, "version 2 is in no topic");
    let mut unsaid = older();
    unsaid.records.clear();
    unsaid.source.events.clear();
    assert_eq!(check(&unsaid).lost.count(), 1, "its last version is in no topic");
}
