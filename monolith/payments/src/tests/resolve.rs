//! Every unknown outcome ends, and ends once.

use super::crash::charged_once;
use super::*;
use crate::provider::{Call, Fault, ObjectStatus};
use crate::{Desk as _, Operation, store};

/// The attempt of a payment's last intent.
async fn attempt(world: &World, id: PaymentId) -> i32 {
    let sql = "select attempt from payments.intent where payment_id = $1 order by created_at desc limit 1";
    sqlx::query_scalar(sql).bind(id.uuid()).fetch_one(&world.admin).await.unwrap()
}

/// Lets a payment's open intent be older than the provider's keys.
async fn age(world: &World, id: PaymentId) {
    let sql = "update payments.intent set created_at = now() - interval '25 hours' where payment_id = $1 and state <> 'done'";
    sqlx::query(sql).bind(id.uuid()).execute(&world.admin).await.unwrap();
    world.provider.forget_keys();
}

/// A few looks at the tables, one after the other.
async fn look(world: &World) {
    for _ in 0..3 {
        world.hurry().await;
        world.engine().once().await.unwrap();
    }
}

fn returned(world: &World, id: PaymentId) -> Vec<i64> {
    let of_it = world.provider.journal().into_iter();
    let of_it = of_it.filter(|it| it.payment == id && it.operation == Operation::Refund);
    of_it.map(|it| it.amount_minor).collect()
}

#[tokio::test]
async fn a_charge_that_comes_late_while_it_is_looked_for_is_one_charge() {
    let world = World::new("late").await;
    for lags in [false, true] {
        for call in [Call::Create, Call::Confirm] {
            world.provider.lag_search(lags);
            let id = world.request("pm_card_visa", false).await;
            world.provider.fail_next(call, Fault::Late);
            look(&world).await;
            assert!(world.payment(id).await.outcome_pending, "{call:?}");
            assert_eq!(world.provider.arrive(), 1, "nobody sent it again under another key");
            world.work().await;
            charged_once(&world, id).await;
            assert_eq!(attempt(&world, id).await, 1);
        }
    }
    world.end().await;
}

#[tokio::test]
async fn a_payment_intent_whose_id_was_lost_is_found_and_none_is_made_beside_it() {
    let world = World::new("found").await;
    let id = world.request("pm_card_visa", false).await;
    world.provider.fail_next(Call::Create, Fault::DoneUnanswered);
    world.engine().once().await.unwrap();
    // Even a provider that has forgotten the key makes no second one.
    world.provider.forget_keys();
    world.work().await;
    charged_once(&world, id).await;
    assert_eq!(world.provider.intents(), 1);
    world.end().await;
}

#[tokio::test]
async fn a_fault_kept_under_the_key_ends_by_a_new_key_once_it_is_read_that_nothing_happened() {
    let world = World::new("kept").await;
    for (call, fault, attempts) in [
        (Call::Create, Fault::FaultKept, 2),
        (Call::Confirm, Fault::FaultKept, 2),
        // The search finds the one that was made.
        (Call::Create, Fault::DoneFaultKept, 1),
        // The payment intent says that it was charged.
        (Call::Confirm, Fault::DoneFaultKept, 1),
    ] {
        let id = world.request("pm_card_visa", false).await;
        world.provider.fail_next(call, fault);
        world.work().await;
        charged_once(&world, id).await;
        assert_eq!(attempt(&world, id).await, attempts, "{call:?} {fault:?}");
    }
    // Made, but nobody finds it: another one is made, and only that one is ever confirmed.
    world.provider.lag_search(true);
    let (id, before) = (world.request("pm_card_visa", false).await, world.provider.intents());
    world.provider.fail_next(Call::Create, Fault::DoneFaultKept);
    world.work().await;
    charged_once(&world, id).await;
    assert_eq!(world.provider.intents() - before, 2);
    world.end().await;
}

#[tokio::test]
async fn only_one_payment_intent_of_a_command_is_ever_kept() {
    let world = World::new("keep").await;
    let id = world.request("pm_card_visa", false).await;
    world.provider.fail_next(Call::Create, Fault::Lost);
    world.engine().once().await.unwrap();
    let sql = "select command_id from payments.intent where payment_id = $1";
    let command: Uuid = sqlx::query_scalar(sql).bind(id.uuid()).fetch_one(&world.admin).await.unwrap();
    let keep =
        async |attempt, object| store::set_object(&world.home.pool, command, attempt, object).await.unwrap();
    assert!(!keep(2, "pi_other").await, "of an attempt that has not begun");
    assert!(keep(1, "pi_one").await);
    assert!(keep(1, "pi_one").await, "again");
    assert!(!keep(1, "pi_other").await, "someone who slept meanwhile");
    world.end().await;
}

#[tokio::test]
async fn a_refund_is_looked_up_before_it_is_asked_for_again() {
    let world = World::new("listed").await;
    for fault in [Fault::DoneUnanswered, Fault::DoneFaultKept, Fault::FaultKept, Fault::Late, Fault::Lost] {
        let id = world.captured().await;
        world.provider.fail_next(Call::Refund, fault);
        let desk = world.desk().answer_within(Duration::from_millis(200));
        let answer = desk.refund(&refund(id, Some(400), "r"), Epoch(0)).await;
        assert!(matches!(answer, Err(Error::OutcomePending(_))), "{fault:?} {answer:?}");
        look(&world).await;
        if fault == Fault::DoneUnanswered {
            // It would be made twice now, if it were asked for.
            world.provider.forget_keys();
        }
        let late = world.provider.arrive();
        assert_eq!(late, usize::from(fault == Fault::Late));
        world.work().await;
        assert_eq!(world.payment(id).await.refunded_minor, 400, "{fault:?}");
        assert_eq!(returned(&world, id), [400], "{fault:?}");
        let attempts = if fault == Fault::FaultKept { 2 } else { 1 };
        assert_eq!(attempt(&world, id).await, attempts, "{fault:?}");
    }
    world.end().await;
}

/// How many commands of each operation and state are open.
async fn open(world: &World) -> Vec<(String, String, i64)> {
    let open = store::open_work(&world.home.pool).await.unwrap().open;
    open.into_iter().map(|it| (it.operation, it.state, it.count)).collect()
}

#[tokio::test]
async fn past_the_keys_lifetime_a_payment_intent_is_made_and_confirmed_all_the_same() {
    let world = World::new("expired").await;
    for (call, fault, lags) in [
        // Charged, and its id is known.
        (Call::Confirm, Fault::DoneUnanswered, false),
        // Never made; made, and found; made, and never found.
        (Call::Create, Fault::Lost, false),
        (Call::Create, Fault::DoneUnanswered, false),
        (Call::Create, Fault::DoneUnanswered, true),
        // Made, and not confirmed.
        (Call::Confirm, Fault::Lost, false),
    ] {
        for manual in [false, true] {
            world.provider.lag_search(lags);
            let (id, before) = (world.request("pm_card_visa", manual).await, world.provider.intents());
            world.provider.fail_next(call, fault);
            world.engine().once().await.unwrap();
            age(&world, id).await;
            let operation = if manual { "authorize" } else { "charge" };
            let waits = [(operation.to_owned(), "unknown".to_owned(), 1)];
            assert_eq!(open(&world).await, waits, "for nobody {call:?} {fault:?}");
            world.work().await;
            if manual {
                assert_eq!(world.payment(id).await.status, Status::Authorized, "{call:?} {fault:?}");
            } else {
                charged_once(&world, id).await;
            }
            // The one that nobody finds stays as it is for ever.
            let made = world.provider.intents() - before;
            assert_eq!(made, 1 + usize::from(lags), "{call:?} {fault:?}");
        }
    }
    world.end().await;
}

#[tokio::test]
async fn past_the_keys_lifetime_a_reservation_is_captured_or_released_all_the_same() {
    let world = World::new("expired_later").await;
    for (call, fault) in [
        (Call::Capture, Fault::Lost),
        (Call::Capture, Fault::DoneUnanswered),
        (Call::Cancel, Fault::Lost),
        (Call::Cancel, Fault::DoneUnanswered),
    ] {
        let id = world.request("pm_card_visa", true).await;
        world.engine().once().await.unwrap();
        world.provider.fail_next(call, fault);
        let desk = world.desk().answer_within(Duration::from_millis(200));
        let (pending, status, moved) = if call == Call::Capture {
            (desk.capture(&capture(id, None, "c"), Epoch(0)).await, Status::Captured, vec![1_000])
        } else {
            (desk.void(&void(id, "v"), Epoch(0)).await, Status::Voided, vec![])
        };
        assert!(matches!(pending, Err(Error::OutcomePending(_))), "{pending:?}");
        age(&world, id).await;
        world.work().await;
        assert_eq!(world.payment(id).await.status, status, "{call:?} {fault:?}");
        let journal = world.provider.journal().into_iter().filter(|it| it.payment == id);
        assert_eq!(journal.map(|it| it.amount_minor).collect::<Vec<_>>(), moved, "{call:?} {fault:?}");
    }
    world.end().await;
}

#[tokio::test]
async fn past_the_keys_lifetime_a_refund_is_only_read() {
    let world = World::new("expired_refund").await;
    for (fault, listed) in [(Fault::DoneUnanswered, vec![400]), (Fault::Lost, vec![])] {
        let id = world.captured().await;
        world.provider.fail_next(Call::Refund, fault);
        let desk = world.desk().answer_within(Duration::from_millis(200));
        let pending = desk.refund(&refund(id, Some(400), "r"), Epoch(0)).await;
        assert!(matches!(pending, Err(Error::OutcomePending(_))), "{pending:?}");
        age(&world, id).await;
        look(&world).await;
        assert_eq!(returned(&world, id), listed, "{fault:?}: nothing is sent again");
        let payment = world.payment(id).await;
        assert_eq!(payment.refunded_minor, listed.iter().sum::<i64>());
        assert_eq!(
            payment.outcome_pending,
            listed.is_empty(),
            "{fault:?}: what is not listed waits for a person"
        );
    }
    assert_eq!(open(&world).await, [("refund".to_owned(), "expired".to_owned(), 1)]);
    let work = store::open_work(&world.home.pool).await.unwrap();
    assert!(work.oldest_unknown_s.unwrap() > 24.0 * 3600.0);
    world.end().await;
}

#[tokio::test]
async fn past_the_keys_lifetime_a_search_that_fails_makes_no_second_payment_intent() {
    let world = World::new("expired_restored").await;
    let (id, before) = (world.request("pm_card_visa", false).await, world.provider.intents());
    world.provider.fail_next(Call::Confirm, Fault::DoneUnanswered);
    world.engine().once().await.unwrap();
    // A database that was restored to before the id was kept.
    let lost = "update payments.intent set provider_object = null where payment_id = $1";
    sqlx::query(lost).bind(id.uuid()).execute(&world.admin).await.unwrap();
    age(&world, id).await;
    world.provider.fail_next(Call::Search, Fault::Lost);
    world.work().await;
    charged_once(&world, id).await;
    assert_eq!(world.provider.intents() - before, 1);
    world.end().await;
}

#[tokio::test]
async fn past_the_keys_lifetime_what_the_provider_is_still_at_waits_for_nobody_else() {
    let world = World::new("expired_processing").await;
    let id = world.request("pm_card_visa", false).await;
    world.provider.fail_next(Call::Confirm, Fault::Lost);
    world.engine().once().await.unwrap();
    world.provider.turn(id, ObjectStatus::Processing);
    age(&world, id).await;
    look(&world).await;
    assert_eq!(open(&world).await, [("charge".to_owned(), "unknown".to_owned(), 1)]);
    let sql = "select next_at > now() + interval '1 minute' from payments.intent where payment_id = $1";
    let rests: bool = sqlx::query_scalar(sql).bind(id.uuid()).fetch_one(&world.admin).await.unwrap();
    assert!(rests, "a bank may take days");
    world.provider.turn(id, ObjectStatus::Canceled);
    world.work().await;
    assert_eq!(world.payment(id).await.status, Status::Declined);
    world.end().await;
}

#[tokio::test]
async fn a_payment_intent_has_a_defined_way_from_each_of_its_statuses() {
    let world = World::new("statuses").await;
    let acts = world.request("pm_requires_action", false).await;
    world.work().await;
    assert_eq!(world.payment(acts).await.status, Status::Declined, "nobody is there to act");

    let canceled = world.request("pm_card_visa", false).await;
    world.provider.fail_next(Call::Confirm, Fault::Lost);
    world.engine().once().await.unwrap();
    world.provider.turn(canceled, ObjectStatus::Processing);
    look(&world).await;
    assert!(world.payment(canceled).await.outcome_pending, "processing: only wait");
    world.provider.turn(canceled, ObjectStatus::Canceled);
    world.work().await;
    assert_eq!(world.payment(canceled).await.status, Status::Declined, "somebody called it off");

    // A refusal is believed once nothing can move any more.
    let refused = world.request("pm_card_visa", false).await;
    world.provider.fail_next(Call::Confirm, Fault::Refused);
    world.work().await;
    let payment = world.payment(refused).await;
    assert_eq!(payment.status, Status::Declined);
    let object = crate::Provider::retrieve(&*world.provider, &payment.provider_ref.unwrap()).await.unwrap();
    assert_eq!(object.status, ObjectStatus::Canceled);
    assert_eq!(world.provider.journal(), []);
    world.end().await;
}

#[tokio::test]
async fn one_that_is_turned_away_waits_as_long_as_it_is_told() {
    let world = World::new("turned").await;
    let id = world.request("pm_card_visa", false).await;
    world.provider.fail_next(Call::Create, Fault::TurnedAway);
    world.engine().once().await.unwrap();
    let sql =
        "select next_at > now() + interval '600 milliseconds' from payments.intent where payment_id = $1";
    let waits: bool = sqlx::query_scalar(sql).bind(id.uuid()).fetch_one(&world.admin).await.unwrap();
    assert!(waits, "a second, a quarter more or less");
    world.work().await;
    charged_once(&world, id).await;
    world.end().await;
}

/// Lets all claims and pauses end, and no more time than that pass.
async fn try_again(world: &World) {
    let sql = "update payments.intent set claimed_until = now(), next_at = now() where state <> 'done'";
    sqlx::query(sql).execute(&world.admin).await.unwrap();
    world.engine().once().await.unwrap();
}

#[tokio::test]
async fn a_fault_kept_under_a_refunds_key_has_its_time_to_turn_out_done_at_each_attempt() {
    let world = World::new("grace").await;
    let id = world.captured().await;
    let desk = world.desk().answer_within(Duration::from_millis(200));
    world.provider.fail_next(Call::Refund, Fault::TurnedAway);
    let pending = desk.refund(&refund(id, Some(400), "r"), Epoch(0)).await;
    assert!(matches!(pending, Err(Error::OutcomePending(_))), "{pending:?}");
    for _ in 0..10 {
        world.provider.fail_next(Call::Refund, Fault::TurnedAway);
        try_again(&world).await;
    }
    for expected in [1, 2] {
        world.provider.fail_next(Call::Refund, Fault::FaultKept);
        for _ in 0..4 {
            try_again(&world).await;
        }
        assert_eq!(attempt(&world, id).await, expected, "however often it was tried before");
        let kept =
            "update payments.intent set kept_at = kept_at - interval '21 seconds' where state <> 'done'";
        sqlx::query(kept).execute(&world.admin).await.unwrap();
        try_again(&world).await;
        assert_eq!(attempt(&world, id).await, expected + 1);
    }
    world.work().await;
    assert_eq!(returned(&world, id), [400]);
    world.end().await;
}

#[tokio::test]
async fn a_reservation_that_someone_else_captured_blocks_nothing() {
    let world = World::new("elsewhere").await;
    // Ours of 600 did not arrive, and somebody captured all of it.
    let id = world.request("pm_card_visa", true).await;
    world.engine().once().await.unwrap();
    let object = world.payment(id).await.provider_ref.unwrap();
    world.provider.fail_next(Call::Capture, Fault::Lost);
    let desk = world.desk().answer_within(Duration::from_millis(200));
    let pending = desk.capture(&capture(id, Some(600), "c"), Epoch(0)).await;
    assert!(matches!(pending, Err(Error::OutcomePending(_))), "{pending:?}");
    world.provider.received(&object, 1_000);
    world.provider.turn(id, ObjectStatus::Succeeded);
    world.work().await;
    let answer = desk.capture(&capture(id, Some(600), "c"), Epoch(0)).await;
    assert!(
        matches!(&answer, Err(Error::Refused(Refusal::Provider { code })) if code == "already_captured"),
        "{answer:?}"
    );

    // Authorized, but nobody heard of it before it was captured.
    let unheard = world.request("pm_card_visa", true).await;
    world.provider.fail_next(Call::Confirm, Fault::DoneUnanswered);
    world.engine().once().await.unwrap();
    world.provider.turn(unheard, ObjectStatus::Succeeded);
    world.work().await;
    assert_eq!(world.payment(unheard).await.status, Status::Authorized);
    world.end().await;
}
