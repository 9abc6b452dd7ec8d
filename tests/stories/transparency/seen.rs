//! What the world saw of a payment, without who owned it: no ids of a run, no times, no snapshots, no records of authority.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, anyhow};
use outbox::{Event, Incoming};
use prost::Message;
use proto::events::{
    AuthorityOffered, LedgerTransaction, Money, OrderPlaced, PaymentCaptured, PaymentCommand,
    PaymentRequested, PaymentSnapshot, PaymentState, ProviderOutcome,
};
use proto::{OrderStream, PaymentStream};
use tests::checker::{Accepted, Ended, Evidence, Home, Movement, Posting};
use tests::kafka::Record;

use super::day::Told;

/// One order and its payment, as everyone saw them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Answers to the client.
    client: Vec<String>,
    /// The order's stream: what happened.
    order: Vec<String>,
    /// The payment's stream: kind, command, amounts, outcome and postings of each event.
    stream: Vec<String>,
    /// The owner's ledger, transaction by transaction.
    books: Vec<String>,
    /// What the provider did, in order.
    provider: Vec<String>,
}

/// What was seen of each order, by its label.
pub(super) fn seen(evidence: &Evidence, told: &[Told]) -> Result<BTreeMap<String, Seen>> {
    told.iter().map(|told| Ok((told.label.clone(), one(evidence, told)?))).collect()
}

/// What differs, one line each; empty when nothing does.
pub(super) fn differences(never: &BTreeMap<String, Seen>, migrated: &BTreeMap<String, Seen>) -> Vec<String> {
    let nothing = Seen::default();
    let labels = never.keys().chain(migrated.keys()).collect::<BTreeSet<_>>();
    let mut lines = Vec::new();
    for label in labels {
        let (one, other) = (never.get(label).unwrap_or(&nothing), migrated.get(label).unwrap_or(&nothing));
        for (what, one, other) in [
            ("client", &one.client, &other.client),
            ("order", &one.order, &other.order),
            ("stream", &one.stream, &other.stream),
            ("books", &one.books, &other.books),
            ("provider", &one.provider, &other.provider),
        ] {
            if one != other {
                lines.push(format!("{label}, {what}: never migrated {one:#?}, migrated {other:#?}"));
            }
        }
    }
    lines
}

fn one(evidence: &Evidence, told: &Told) -> Result<Seen> {
    let (order, payment) = (told.accepted.order.as_str(), told.accepted.payment.as_str());
    let mut seen = Seen { client: told.answers.clone(), ..Seen::default() };
    for record in firsts(evidence, proto::ORDERS.name(), order) {
        seen.order.push(order_event(record)?.to_owned());
    }
    for record in firsts(evidence, proto::PAYMENTS.name(), payment) {
        seen.stream.extend(payment_event(record)?);
    }
    seen.books = books(evidence, payment);
    let moved = evidence.movements.iter();
    let ours = moved.filter(|moved| moved.metadata.get("payment_id").is_some_and(|id| id == payment));
    seen.provider = ours.map(|moved| format!("{} {} {}", moved.kind, moved.amount, moved.currency)).collect();
    Ok(seen)
}

/// A key's records in the order of their versions, without repeats.
fn firsts<'a>(evidence: &'a Evidence, topic: &str, key: &str) -> Vec<&'a Record> {
    let mut firsts = BTreeMap::new();
    for record in evidence.records.iter().filter(|record| record.topic == topic && record.key == key) {
        firsts.entry(record.version()).or_insert(record);
    }
    firsts.into_values().collect()
}

fn order_event(record: &Record) -> Result<&'static str> {
    match read::<OrderStream>(record)? {
        OrderStream::Placed(_) => Ok("placed"),
        OrderStream::Paid(_) => Ok("paid"),
        OrderStream::Cancelled(_) => Ok("cancelled"),
    }
}

fn read<T: Incoming>(record: &Record) -> Result<T> {
    let kind = record.header("ce_type");
    let event =
        T::decode(kind, &record.payload).with_context(|| format!("{kind} is no kind of {}", record.topic))?;
    event.map_err(|error| anyhow!("version {} of {} can't be read: {error}", record.version(), record.key))
}

/// `None` for what only tells the other home of the state, or of its owner.
fn payment_event(record: &Record) -> Result<Option<String>> {
    Ok(match read::<PaymentStream>(record)? {
        PaymentStream::Requested(event) => Some(format!(
            "requested {}, {}, {}",
            money(event.amount.as_ref()),
            event.capture_method().as_str_name(),
            event.payment_method
        )),
        PaymentStream::Authorized(event) => {
            Some(change("authorized", event.command, event.outcome, event.state, &event.ledger))
        }
        PaymentStream::Captured(event) => {
            Some(change("captured", event.command, event.outcome, event.state, &event.ledger))
        }
        PaymentStream::Declined(event) => {
            Some(change("declined", event.command, event.outcome, event.state, &event.ledger))
        }
        PaymentStream::Voided(event) => {
            Some(change("voided", event.command, event.outcome, event.state, &event.ledger))
        }
        PaymentStream::Refunded(event) => {
            Some(change("refunded", event.command, event.outcome, event.state, &event.ledger))
        }
        PaymentStream::Adjusted(event) => Some(format!(
            "adjusted by {:?}, then {}, booked {}",
            event.adjustment.map(|adjustment| adjustment.delta_minor),
            state(event.state.as_ref()),
            booked(&event.ledger)
        )),
        PaymentStream::Snapshot(_) | PaymentStream::Offered(_) | PaymentStream::Released(_) => None,
    })
}

fn change(
    kind: &str,
    command: Option<PaymentCommand>,
    outcome: Option<ProviderOutcome>,
    after: Option<PaymentState>,
    ledger: &[LedgerTransaction],
) -> String {
    let (command, outcome) = (command.unwrap_or_default(), outcome.unwrap_or_default());
    // How often it was tried is the provider's and the crashes' affair; what came of it is not.
    format!(
        "{kind} by {} of {} under {:?} from {}: {} {:?}, then {}, booked {}",
        command.operation,
        command.amount_minor,
        command.idempotency_key,
        command.actor,
        outcome.result,
        outcome.decline_code,
        state(after.as_ref()),
        booked(ledger)
    )
}

fn state(state: Option<&PaymentState>) -> String {
    state.map_or_else(String::new, |state| {
        format!(
            "{} {} {}/{}/{}",
            state.status().as_str_name(),
            money(state.amount.as_ref()),
            state.authorized_minor,
            state.captured_minor,
            state.refunded_minor
        )
    })
}

fn booked(ledger: &[LedgerTransaction]) -> String {
    let lines = ledger.iter().map(|transaction| {
        let postings = transaction.postings.iter();
        sorted(postings.map(|posting| format!("{} {}", posting.account, money(posting.amount.as_ref()))))
            .join(", ")
    });
    sorted(lines).join("; ")
}

fn money(money: Option<&Money>) -> String {
    money.map_or_else(String::new, |money| format!("{} {}", money.minor, money.currency))
}

fn books(evidence: &Evidence, payment: &str) -> Vec<String> {
    let home = match evidence.owners.get(payment).map(String::as_str) {
        Some("target") => &evidence.target,
        _ => &evidence.source,
    };
    let mut transactions: BTreeMap<&str, Vec<&Posting>> = BTreeMap::new();
    for posting in home.postings.iter().filter(|posting| posting.payment_id == payment) {
        transactions.entry(&posting.transaction_id).or_default().push(posting);
    }
    sorted(transactions.into_values().map(|postings| {
        let lines =
            postings.into_iter().map(|it| format!("{} {} {}", it.account, it.amount_minor, it.currency));
        sorted(lines).join(", ")
    }))
}

fn sorted(lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<String> = lines.collect();
    lines.sort();
    lines
}

const ORDER: &str = "0198c5f2-0000-7000-8000-000000000001";
const PAYMENT: &str = "0198c5f2-0000-7000-8000-000000000002";

fn record(topic: &str, key: &str, version: i64, kind: &str, payload: Vec<u8>) -> Record {
    let headers = [("ce_type", kind.to_owned()), ("banyan-version", version.to_string())];
    let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Record { topic: topic.into(), partition: 0, offset: version, key: key.into(), payload, headers }
}

fn payment_record<T: Event + Message>(version: i64, event: &T) -> Record {
    record(proto::PAYMENTS.name(), PAYMENT, version, T::KIND, event.encode_to_vec())
}

fn captured(captured_minor: i64) -> PaymentCaptured {
    let state = PaymentState { payment_id: PAYMENT.into(), captured_minor, ..PaymentState::default() };
    PaymentCaptured { state: Some(state), ..PaymentCaptured::default() }
}

fn snapshot() -> PaymentSnapshot {
    PaymentSnapshot { state: captured(500).state, ..PaymentSnapshot::default() }
}

/// One payment, as it went without a migration.
fn plain() -> Evidence {
    let posting = |account: &str, amount_minor| Posting {
        payment_id: PAYMENT.into(),
        transaction_id: "of this run".into(),
        account: account.into(),
        amount_minor,
        currency: "EUR".into(),
    };
    let charge = Movement {
        kind: "charge".into(),
        amount: 500,
        currency: "eur".into(),
        metadata: BTreeMap::from([("payment_id".to_owned(), PAYMENT.to_owned())]),
        ..Movement::default()
    };
    let requested = PaymentRequested { payment_id: PAYMENT.into(), ..PaymentRequested::default() };
    let placed = OrderPlaced { order_id: ORDER.into(), ..OrderPlaced::default() };
    Evidence {
        source: Home {
            postings: vec![posting("clearing", 500), posting("payable", -500)],
            ..Home::default()
        },
        records: vec![
            record(proto::ORDERS.name(), ORDER, 1, OrderPlaced::KIND, placed.encode_to_vec()),
            payment_record(1, &requested),
            payment_record(2, &captured(500)),
        ],
        movements: vec![charge],
        ..Evidence::default()
    }
}

fn as_seen(evidence: &Evidence) -> BTreeMap<String, Seen> {
    let accepted = Accepted { order: ORDER.into(), payment: PAYMENT.into(), ends: Ended::Paid };
    let told = Told { label: "day-0-0".into(), accepted, answers: vec!["captured".into()] };
    seen(evidence, &[told]).expect("all of it is there")
}

#[test]
fn snapshots_records_of_authority_and_repeats_are_not_seen() {
    let mut moved = plain();
    let offered = AuthorityOffered { epoch: 2, whole: Some(snapshot()), ..AuthorityOffered::default() };
    moved.records.push(payment_record(2, &captured(500)));
    moved.records.push(payment_record(3, &snapshot()));
    moved.records.push(payment_record(4, &offered));
    moved.owners.insert(PAYMENT.into(), "target".into());
    moved.target = std::mem::take(&mut moved.source);
    moved.target.postings.iter_mut().for_each(|posting| posting.transaction_id = "of that run".into());
    assert_eq!(differences(&as_seen(&plain()), &as_seen(&moved)), Vec::<String>::new());
}

type Change = fn(&mut Evidence);

#[test]
fn whatever_others_could_notice_is_seen() {
    let changes: [(&str, Change); 7] = [
        ("a second charge", |e| e.movements.push(e.movements[0].clone())),
        ("another amount at the provider", |e| e.movements[0].amount = 501),
        ("an event that is missing", |e| drop(e.records.pop())),
        ("an event twice, under two versions", |e| e.records.push(payment_record(3, &captured(500)))),
        ("another state", |e| e.records[2] = payment_record(2, &captured(499))),
        ("another posting", |e| e.source.postings[1].amount_minor = -499),
        ("an order that is missing", |e| drop(e.records.remove(0))),
    ];
    for (what, change) in changes {
        let mut broken = plain();
        change(&mut broken);
        let lines = differences(&as_seen(&plain()), &as_seen(&broken));
        assert_eq!(lines.len(), 1, "{what}: {lines:?}");
    }
    assert_eq!(differences(&as_seen(&plain()), &BTreeMap::new()).len(), 5, "an order that nobody saw");
}
