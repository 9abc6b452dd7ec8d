//! Any history, through the real engine and desk: its stream, replayed, is the tables, here and in a second home.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use prost::Message as _;

use super::shadow::every_decision_was_compared;
use super::*;
use crate::movable::Record;
use crate::provider::{Call, Fault};
use crate::shadow::{Class, Counts, Shadow};
use crate::{
    Account, Adjustment, Command, Desk as _, Idempotency, Operation, Outcome, PaymentEvent, Transaction,
    adjust, apply, decide, events,
};

/// Histories that are lived in one run; a failing one is cut down to its core.
const HISTORIES: u32 = 24;

/// What a merchant, or reconciliation, does.
#[derive(Debug, Clone)]
enum Act {
    Capture(Option<i64>),
    Void,
    Refund(Option<i64>),
    /// The last command once more, under its key.
    Again,
    /// Its key with another amount, which no history has.
    Reuse,
    Adjust(i64),
    /// The home gives the payment up, and has it again: the move took too long.
    Offer,
}

/// One act, and what goes wrong with the provider meanwhile.
#[derive(Debug, Clone)]
struct Step {
    act: Act,
    fault: Option<(Call, Fault)>,
}

#[derive(Debug, Clone)]
struct History {
    method: &'static str,
    manual: bool,
    steps: Vec<Step>,
}

/// Histories that are lived in every run, so that none misses a kind of event.
fn fixed() -> [History; 6] {
    let of = |method, manual, acts: &[Act]| History {
        method,
        manual,
        steps: acts.iter().map(|act| Step { act: act.clone(), fault: None }).collect(),
    };
    let lost = Step { act: Act::Refund(None), fault: Some((Call::Refund, Fault::Lost)) };
    [
        of("pm_card_declined", false, &[]),
        of("pm_card_visa", true, &[Act::Void, Act::Again]),
        of("pm_card_visa", true, &[Act::Capture(Some(300)), Act::Refund(Some(100)), Act::Refund(None)]),
        History { method: "pm_card_visa", manual: false, steps: vec![lost] },
        of("pm_card_visa", false, &[Act::Adjust(-50), Act::Refund(Some(10)), Act::Again, Act::Reuse]),
        of("pm_card_visa", false, &[Act::Refund(Some(10)), Act::Offer, Act::Again, Act::Refund(None)]),
    ]
}

fn histories() -> impl Strategy<Value = History> {
    let amount = || prop_oneof![Just(None), (0..=1_100i64).prop_map(Some), (1..=300i64).prop_map(Some)];
    let act = prop_oneof![
        3 => amount().prop_map(Act::Capture),
        1 => Just(Act::Void),
        6 => amount().prop_map(Act::Refund),
        1 => Just(Act::Again),
        1 => Just(Act::Reuse),
        1 => (-200..=200i64).prop_map(Act::Adjust),
        1 => Just(Act::Offer),
    ];
    let call = prop::sample::select(vec![Call::Capture, Call::Cancel, Call::Refund]);
    let fault = prop::sample::select(vec![Fault::Lost, Fault::DoneUnanswered]);
    let step =
        (act, prop::option::weighted(0.25, (call, fault))).prop_map(|(act, fault)| Step { act, fault });
    let method = prop_oneof![4 => Just("pm_card_visa"), 1 => Just("pm_card_declined")];
    (method, any::<bool>(), prop::collection::vec(step, 0..9)).prop_map(|(method, manual, steps)| History {
        method,
        manual,
        steps,
    })
}

/// What a home keeps of a payment, without the times of its own clock.
#[derive(Debug, PartialEq)]
struct Tables {
    payment: Payment,
    ledger: Vec<Line>,
    adjustments: Vec<AdjustmentRow>,
    answers: Vec<AnswerRow>,
}

/// Transaction, account, minor units, currency, tenant.
type Line = (Uuid, String, i64, String, String);
/// Transaction, minor units, the provider's object and payment intent, reason.
type AdjustmentRow = (Uuid, i64, String, Option<String>, String);
/// Operation, key, fingerprint, command, the answered state and its version.
type AnswerRow = (String, String, String, Uuid, Vec<u8>, i64);

async fn tables(world: &World, id: PaymentId) -> Tables {
    let sql = "select transaction_id, account, amount_minor, currency, tenant from payments.ledger_entry
               where payment_id = $1 order by 1, 2";
    let ledger = sqlx::query_as(sql).bind(id.uuid()).fetch_all(&world.admin).await.unwrap();
    let sql = "select transaction_id, delta_minor, object, payment_intent, reason from payments.adjustment
               where payment_id = $1 order by 1";
    let adjustments = sqlx::query_as(sql).bind(id.uuid()).fetch_all(&world.admin).await.unwrap();
    let sql =
        "select operation, key, fingerprint, command_id, answer, answer_version from payments.idempotency
               where payment_id = $1 and answer is not null order by 1, 2";
    let answers = sqlx::query_as(sql).bind(id.uuid()).fetch_all(&world.admin).await.unwrap();
    Tables { payment: world.payment(id).await, ledger, adjustments, answers }
}

/// A payment's whole stream, from the outbox's log.
pub(super) async fn stream(world: &World, id: PaymentId) -> Vec<(i64, PaymentStream)> {
    let sql = "select version, kind, payload from outbox.event where key = $1 order by position";
    let rows: Vec<(i64, String, Vec<u8>)> =
        sqlx::query_as(sql).bind(id.to_string()).fetch_all(&world.admin).await.unwrap();
    let read = |(version, kind, payload): (i64, String, Vec<u8>)| {
        (version, PaymentStream::decode(&kind, &payload).unwrap().unwrap())
    };
    rows.into_iter().map(read).collect()
}

/// The last command of a history, to be repeated.
struct Last {
    act: Act,
    key: String,
    answer: Result<Payment, String>,
}

/// Does an act while an engine works, and says how it was answered. What is refused must have changed nothing.
async fn perform(world: &World, id: PaymentId, act: &Act, name: &str) -> Result<Payment, String> {
    let desk = world.desk();
    let command = async {
        match act {
            Act::Capture(amount) => desk.capture(&capture(id, *amount, name), Epoch(0)).await,
            Act::Void => desk.void(&void(id, name), Epoch(0)).await,
            Act::Refund(amount) => desk.refund(&refund(id, *amount, name), Epoch(0)).await,
            Act::Adjust(delta_minor) => {
                let (object, reason) = ("ch_7".to_owned(), "found".to_owned());
                let adjustment = Adjustment {
                    id: Uuid::now_v7(),
                    delta_minor: *delta_minor,
                    object,
                    payment_intent: Some("pi_7".to_owned()),
                    reason,
                };
                world.adjust(id, &adjustment, "anna").await
            }
            Act::Offer => world.give(id, Record::Offer).await,
            Act::Again | Act::Reuse => Err(Error::NotFound),
        }
    };
    let working = async {
        loop {
            world.hurry().await;
            world.engine().once().await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let before = tables(world, id).await;
    let answer = tokio::select! {
        answer = tokio::time::timeout(SOON, command) => answer.expect("an answer in time"),
        () = working => unreachable!("it ends by being dropped"),
    };
    world.work().await;
    if answer.is_err() {
        assert_eq!(tables(world, id).await, before, "{act:?} was refused with {answer:?}");
    }
    answer.map_err(|error| error.to_string())
}

/// Lives a history, and returns the payment and how its acts were answered.
async fn live(world: &World, history: &History) -> PaymentId {
    let id = world.request(history.method, history.manual).await;
    world.work().await;
    let mut last: Option<Last> = None;
    for (at, Step { act, fault }) in history.steps.iter().enumerate() {
        if let Some((call, fault)) = fault {
            world.provider.fail_next(*call, *fault);
        }
        let key = format!("k{at}");
        match (act, &last) {
            (Act::Again | Act::Reuse, None) => {}
            (Act::Again, Some(Last { act, key, answer })) => {
                let again = perform(world, id, act, key).await;
                assert!(answer.is_err() || again == *answer, "{act:?}: {answer:?}, then {again:?}");
            }
            (Act::Reuse, Some(Last { act, key, answer })) => {
                let other = match act {
                    Act::Capture(_) => Act::Capture(Some(2_000)),
                    Act::Refund(_) => Act::Refund(Some(2_000)),
                    Act::Void | Act::Again | Act::Reuse | Act::Adjust(_) | Act::Offer => continue,
                };
                let reused = perform(world, id, &other, key).await;
                assert!(answer.is_err() || reused.is_err(), "{act:?}: {answer:?}, then {reused:?}");
            }
            (Act::Adjust(_) | Act::Offer, _) => drop(perform(world, id, act, &key).await),
            (Act::Capture(_) | Act::Void | Act::Refund(_), _) => {
                let answer = perform(world, id, act, &key).await;
                last = Some(Last { act: act.clone(), key, answer });
            }
        }
    }
    id
}

/// Folds a stream to what the tables must hold; every event must be what the rules make of its cause.
fn replay(stream: Vec<(i64, PaymentStream)>) -> Tables {
    let mut stream = stream.into_iter();
    let Some((1, PaymentStream::Requested(first))) = stream.next() else { panic!("no first event") };
    let mut payment = events::read_requested(first, 1).unwrap();
    let (mut books, mut adjustments, mut answers) = (Vec::new(), Vec::new(), Vec::new());
    for (version, event) in stream {
        let (state, ledger) = match event {
            PaymentStream::Authorized(wire::PaymentAuthorized { state, command, outcome, ledger })
            | PaymentStream::Captured(wire::PaymentCaptured { state, command, outcome, ledger })
            | PaymentStream::Declined(wire::PaymentDeclined { state, command, outcome, ledger })
            | PaymentStream::Voided(wire::PaymentVoided { state, command, outcome, ledger })
            | PaymentStream::Refunded(wire::PaymentRefunded { state, command, outcome, ledger }) => {
                let event = read_event(&payment, command.unwrap(), outcome.unwrap());
                payment = apply(&payment, &event).unwrap();
                answers.extend(answer_row(&event.command, &payment));
                books.extend(event.ledger);
                (state, ledger)
            }
            PaymentStream::Adjusted(wire::PaymentAdjusted { state, adjustment, ledger }) => {
                let event = adjust(&payment, &events::read_adjustment(adjustment.unwrap()).unwrap()).unwrap();
                adjustments.push(adjustment_row(event.adjustment));
                payment = Payment { version: payment.version + 1, ..event.payment };
                books.push(event.ledger);
                (state, ledger)
            }
            PaymentStream::Offered(wire::AuthorityOffered { whole, .. }) => {
                let whole = whole.unwrap();
                payment.version += 1;
                assert_eq!(whole.ledger.len(), books.len(), "what was booked is all in the offer");
                (whole.state, Vec::new())
            }
            other @ (PaymentStream::Requested(_)
            | PaymentStream::Snapshot(_)
            | PaymentStream::Released(_)) => {
                panic!("{other:?}")
            }
        };
        // The event carries the same state and the same bookings, for those who don't know the rules.
        assert_eq!((payment.version, Some(events::state(&payment))), (version, state));
        let booked = events::read_ledger(ledger).unwrap();
        assert!(booked.is_empty() || books.last() == booked.first());
    }
    adjustments.sort();
    answers.sort();
    Tables { ledger: lines(&payment, &books), payment, adjustments, answers }
}

fn read_event(
    before: &Payment,
    command: wire::PaymentCommand,
    outcome: wire::ProviderOutcome,
) -> PaymentEvent {
    let object = outcome.object;
    let outcome = match outcome.result.as_str() {
        "succeeded" => Outcome::Succeeded { object },
        "requires_capture" => Outcome::RequiresCapture { object },
        "declined" => Outcome::Declined { object, code: outcome.decline_code },
        "canceled" => Outcome::Canceled { object },
        "refunded" => Outcome::Refunded { object },
        other => panic!("{other}"),
    };
    let keyed = events::read_keyed(Some(command.clone())).unwrap();
    let command = keyed.unwrap_or_else(|| Command {
        id: command.command_id.parse().unwrap(),
        operation: Operation::from_word(&command.operation).unwrap(),
        amount_minor: command.amount_minor,
        idempotency: None,
        attempt: command.attempt,
        actor: Actor::engine(),
        reason: None,
    });
    decide(before, &command, &outcome).unwrap()
}

fn adjustment_row(adjustment: Adjustment) -> AdjustmentRow {
    let Adjustment { id, delta_minor, object, payment_intent, reason } = adjustment;
    (id, delta_minor, object, payment_intent, reason)
}

fn answer_row(command: &Command, answer: &Payment) -> Option<AnswerRow> {
    let Idempotency { key, fingerprint } = command.idempotency.clone()?;
    let state = events::state(answer).encode_to_vec();
    Some((command.operation.word().into(), key.to_string(), fingerprint, command.id, state, answer.version))
}

fn lines(payment: &Payment, books: &[Transaction]) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for transaction in books {
        lines.extend(transaction.postings.iter().map(|line| {
            let (account, currency) = (line.account.word().to_owned(), line.amount.currency.to_string());
            (transaction.id, account, line.amount.minor, currency, payment.tenant.to_string())
        }));
    }
    lines.sort();
    lines
}

/// What the provider moved, and what was adjusted, is what the books say.
fn in_line_with_the_provider(world: &World, id: PaymentId, tables: &Tables) {
    let of = |account: Account| -> i64 {
        tables.ledger.iter().filter(|line| line.1 == account.word()).map(|line| line.2).sum()
    };
    let moved: i64 = world
        .provider
        .journal()
        .into_iter()
        .filter(|movement| movement.payment == id)
        .map(|movement| match movement.operation {
            Operation::Charge | Operation::Capture => movement.amount_minor,
            Operation::Refund => -movement.amount_minor,
            Operation::Authorize | Operation::Void => 0,
        })
        .sum();
    let payment = &tables.payment;
    assert_eq!(moved, payment.captured_minor - payment.refunded_minor);
    assert_eq!(of(Account::Clearing), moved - of(Account::Receivable));
}

/// Lives a history at its owner, and compares the replay of its stream with the tables there and at the replica.
/// The replica decides each event itself, too, which is the same each time; returns what it counted.
async fn replays(owner: &World, replica: &World, history: &History) -> Result<Counts, TestCaseError> {
    let id = live(owner, history).await;
    let (stream, here) = (stream(owner, id).await, tables(owner, id).await);
    in_line_with_the_provider(owner, id, &here);
    let shadow = Shadow::new("replayed");
    for (version, event) in stream.clone() {
        let replicate = Replicate::new(replica.home.clone(), replica.owns.clone()).shadow(shadow.clone());
        replica.apply_by(replicate, id, version, event).await.unwrap();
    }
    let counts = shadow.take();
    prop_assert!(counts.decisions.keys().all(|(class, _)| *class == Class::Equal), "{counts:?}");
    prop_assert!(counts.mutants.values().all(|(_, missed)| *missed == 0), "{counts:?}");
    prop_assert_eq!(&replay(stream), &here);
    prop_assert_eq!(&tables(replica, id).await, &here);
    Ok(counts)
}

/// The kinds of all events of a home, without what their names have in common.
async fn kinds(world: &World) -> BTreeSet<String> {
    let sql = "select distinct split_part(kind, '.', 4) from outbox.event";
    let kinds: Vec<String> = sqlx::query_scalar(sql).fetch_all(&world.admin).await.unwrap();
    kinds.into_iter().map(|kind| kind.trim_start_matches("payment_").to_owned()).collect()
}

#[test]
fn any_history_replays_to_the_tables_of_both_homes() {
    const KINDS: [&str; 8] = [
        "adjusted",
        "authority_offered",
        "authorized",
        "captured",
        "declined",
        "refunded",
        "requested",
        "voided",
    ];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (owner, replica) =
        runtime.block_on(async { (World::new("lived").await, World::new("replayed").await) });
    replica.owns.0.store(false, Ordering::SeqCst);
    let seen = runtime.block_on(async {
        let mut counts = Counts::default();
        for history in fixed() {
            let replayed = replays(&owner, &replica, &history).await;
            counts.merge(replayed.unwrap_or_else(|error| panic!("{history:?}: {error}")));
        }
        every_decision_was_compared(&owner, &counts).await;
        kinds(&owner).await
    });
    assert_eq!(seen, BTreeSet::from(KINDS.map(str::to_owned)), "kinds of events that were replayed");
    let config = Config { cases: HISTORIES, failure_persistence: None, ..Config::default() };
    let lived = TestRunner::new(config)
        .run(&histories(), |history| runtime.block_on(replays(&owner, &replica, &history)).map(drop));
    runtime.block_on(async {
        owner.end().await;
        replica.end().await;
    });
    lived.unwrap_or_else(|error| panic!("{error}"));
}
