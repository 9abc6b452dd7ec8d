//! What this home decides in the other one's shadow: what differs is found, and what can't be compared is not equal.

use std::collections::{BTreeMap, BTreeSet};

use proto::Money;
use time::{Duration as Span, OffsetDateTime};

use super::*;
use crate::shadow::{Came, Class, Counts, MUTANTS, Mutant, Shadow, decisions, judge_with, outcomes};
use crate::{Account, Command, Operation, Outcome, PaymentEvent, decide, events};

/// Every mutant was caught, and the owner's tables tell of the same outcomes as the events did.
pub(super) async fn every_decision_was_compared(owner: &World, counts: &Counts) {
    for mutant in &MUTANTS {
        let caught = counts.mutants.get(mutant.name).map_or(0, |(caught, _)| *caught);
        assert!(caught > 0, "{}: {counts:?}", mutant.name);
    }
    let compared: BTreeSet<String> =
        counts.decisions.keys().map(|(_, outcome)| (*outcome).to_owned()).collect();
    let all = ["authorized", "captured", "captured_part", "declined", "refunded", "refunded_part", "voided"];
    assert_eq!(compared, BTreeSet::from(all.map(str::to_owned)));
    assert_eq!(outcomes(&owner.home.pool).await.unwrap(), all);
}

/// A requested payment of 1,000, and its charge.
fn charge() -> (Payment, PaymentEvent) {
    let before = events::read_requested(requested(PaymentId::new(), "pm_card_visa", false), 1).unwrap();
    let command = Command {
        id: Uuid::now_v7(),
        operation: Operation::Charge,
        amount_minor: 1_000,
        idempotency: None,
        attempt: 1,
        actor: Actor::engine(),
        reason: None,
    };
    let outcome = Outcome::Succeeded { object: "pi_1".into() };
    let event = decide(&before, &command, &outcome).unwrap();
    (before, event)
}

/// The event as it comes, by its owner's rules.
fn came(event: &PaymentEvent) -> Came {
    Came {
        change: event.change,
        payment: Payment { version: event.payment.version + 1, ..event.payment.clone() },
        ledger: event.ledger.iter().cloned().collect(),
        command: Some(events::command(&event.command)),
        outcome: Some(events::outcome(&event.outcome)),
    }
}

/// What is counted of one event.
fn counted(before: Option<&Payment>, came: Came) -> Counts {
    let shadow = Shadow::new("a story");
    shadow.compare(before, came);
    shadow.take()
}

fn classes(counts: &Counts) -> Vec<Class> {
    counts.decisions.keys().map(|(class, _)| *class).collect()
}

#[test]
fn a_fee_that_is_off_by_one_unit_is_money() {
    let (before, event) = charge();
    let mut wrong = came(&event);
    for posting in wrong.ledger.iter_mut().flat_map(|transaction| &mut transaction.postings) {
        match posting.account {
            Account::Fees => posting.amount.minor += 1,
            Account::Payable => posting.amount.minor -= 1,
            Account::Clearing | Account::Receivable => {}
        }
    }
    let counts = counted(Some(&before), wrong);
    assert_eq!(classes(&counts), [Class::Money]);
    let text = &counts.samples[0].text;
    assert!(text.contains("fees -15 EUR") && text.contains("fees -14 EUR"), "{text}");
    assert!(counts.mutants.is_empty(), "beside a difference they show nothing");
}

type Change = fn(&mut Payment);

#[test]
fn amounts_are_money_and_all_else_is_structure() {
    let (before, event) = charge();
    let cases: [(Change, Class); 5] = [
        (|payment| payment.captured_minor -= 1, Class::Money),
        (|payment| payment.amount = Money::new(1_000, "USD".parse().unwrap()), Class::Money),
        (|payment| payment.status = Status::Authorized, Class::Structure),
        (|payment| payment.provider_ref = None, Class::Structure),
        (|payment| payment.tenant = "other".parse().unwrap(), Class::Structure),
    ];
    for (change, class) in cases {
        let mut wrong = came(&event);
        change(&mut wrong.payment);
        assert_eq!(classes(&counted(Some(&before), wrong)), [class]);
    }
    assert_eq!(classes(&counted(Some(&before), came(&event))), [Class::Equal]);
}

#[test]
fn what_would_have_been_refused_differs() {
    let (before, event) = charge();
    let declined = Payment { status: Status::Declined, ..before.clone() };
    let counts = counted(Some(&declined), came(&event));
    assert_eq!(classes(&counts), [Class::Structure]);
    assert!(counts.samples[0].text.contains("would have been refused"), "{counts:?}");
    let mut more = came(&event);
    more.command.as_mut().unwrap().amount_minor = 1_001;
    assert_eq!(classes(&counted(Some(&before), more)), [Class::Money]);
}

#[test]
fn what_can_not_be_compared_is_not_equal() {
    let (before, event) = charge();
    let elsewhere = Payment { version: 7, ..before.clone() };
    let no_command = Came { command: None, ..came(&event) };
    let no_outcome = Came { outcome: None, ..came(&event) };
    let mut unknown = came(&event);
    unknown.outcome.as_mut().unwrap().result = "half".into();
    for (before, came) in [
        (None, came(&event)),
        (Some(&elsewhere), came(&event)),
        (Some(&before), no_command),
        (Some(&before), no_outcome),
        (Some(&before), unknown),
    ] {
        assert_eq!(classes(&counted(before, came)), [Class::Undecidable]);
    }
}

#[test]
fn a_mutant_that_changes_nothing_is_missed() {
    let (before, event) = charge();
    let idle = Mutant { name: "idle", outcomes: &["captured"], change: |_, right| Some(right.clone()) };
    let said = || event.clone().into();
    assert_eq!(judge_with(&[idle], &before, &said(), Ok(said())).mutants, [("idle", false)]);
}

#[test]
fn an_event_that_is_applied_again_is_counted_once() {
    let (before, event) = charge();
    let shadow = Shadow::new("a story");
    for _ in 0..3 {
        shadow.compare(Some(&before), came(&event));
    }
    assert_eq!(shadow.take().decisions.values().copied().collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn counts_are_kept_by_version_and_time_and_the_latest_hundred_samples() {
    let world = World::new("shadowed").await;
    let pool = &world.home.pool;
    let shadow = Shadow::new("1.0");
    for round in 0..3 {
        for _ in 0..60 {
            let (before, event) = charge();
            let mut wrong = came(&event);
            wrong.payment.captured_minor -= round;
            shadow.compare(Some(&before), wrong);
        }
        shadow.flush(pool).await.unwrap();
        assert!(shadow.take().is_empty(), "it is written");
    }
    let since = OffsetDateTime::now_utc() - Span::hours(1);
    let found = decisions(pool, "1.0", since).await.unwrap();
    let captured = "captured".to_owned();
    // One unit less than authorized is a part.
    let part = "captured_part".to_owned();
    assert_eq!(found.counts, [(Class::Equal, captured, 60), (Class::Money, part, 120)]);
    let caught: Vec<_> = found.mutants.iter().map(|mutant| (mutant.name, mutant.caught)).collect();
    assert!(caught.contains(&("fee_forgotten", 60)) && caught.contains(&("refund_twice", 0)), "{caught:?}");
    assert_eq!(found.samples.len(), 100);
    assert!(found.samples[0].text.contains("came 998") && found.samples[99].text.contains("came 999"));

    let later = OffsetDateTime::now_utc() + Span::hours(1);
    assert!(decisions(pool, "1.0", later).await.unwrap().counts.is_empty());
    assert!(decisions(pool, "1.1", since).await.unwrap().counts.is_empty());
    store::forget_decisions(pool).await.unwrap();
    assert_eq!(decisions(pool, "1.0", since).await.unwrap(), found, "nothing is too old yet");
    world.end().await;
}

#[test]
fn a_missed_mutant_is_written_again_and_a_caught_one_is_not() {
    let counts = Counts {
        decisions: BTreeMap::from([((Class::Equal, "captured"), 5), ((Class::Undecidable, "captured"), 1)]),
        mutants: BTreeMap::from([("seen", (5, 0)), ("unseen", (3, 2))]),
        samples: Vec::new(),
    };
    let mut kept = counts.against();
    assert_eq!(kept.mutants, BTreeMap::from([("unseen", (0, 2))]));
    assert_eq!(kept.decisions, BTreeMap::from([((Class::Undecidable, "captured"), 1)]));
    kept.decisions.clear();
    assert!(!kept.is_empty(), "a missed mutant is written even alone");
}

#[tokio::test]
async fn what_may_have_been_written_is_kept_unless_it_is_in_favour() {
    let world = World::new("unwritten").await;
    let shadow = Shadow::new("1.0");
    let (before, event) = charge();
    shadow.compare(Some(&before), came(&event));
    let (before, event) = charge();
    let mut odd = came(&event);
    odd.payment.provider_ref = Some("pi\0".into());
    shadow.compare(Some(&before), odd);
    sqlx::query("alter table payments.decision rename to away").execute(&world.admin).await.unwrap();
    shadow.flush(&world.home.pool).await.unwrap_err();
    sqlx::query("alter table payments.away rename to decision").execute(&world.admin).await.unwrap();
    shadow.flush(&world.home.pool).await.unwrap();
    let since = OffsetDateTime::now_utc() - Span::hours(1);
    let found = decisions(&world.home.pool, "1.0", since).await.unwrap();
    assert_eq!(found.counts, [(Class::Structure, "captured".to_owned(), 1)]);
    assert!(found.mutants.iter().all(|mutant| mutant.caught == 0), "{:?}", found.mutants);
    assert!(found.samples[0].text.contains("came pi?"), "what no column takes is left out");
    world.end().await;
}
