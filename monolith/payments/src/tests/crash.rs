//! Death at each step, and silence of the provider: one charge, always.

use super::*;
use crate::effect::{self, Intended, Ran, Request, Settled, intend};
use crate::provider::{Call, Fault, Movement};
use crate::{Desk as _, Idempotency, Operation};

pub(super) async fn charged_once(world: &World, id: PaymentId) {
    let charge = Movement { payment: id, operation: Operation::Charge, amount_minor: 1_000 };
    let of_this = world.provider.journal().into_iter().filter(|movement| movement.payment == id);
    assert_eq!(of_this.collect::<Vec<_>>(), [charge]);
    assert_eq!(world.payment(id).await.status, Status::Captured);
    assert_eq!(world.versions(id).await, [1, 2]);
    let balances = world.balances(id).await;
    assert_eq!(balances, [("clearing".into(), 1_000), ("fees".into(), -15), ("payable".into(), -985)]);
}

#[tokio::test]
async fn an_engine_that_dies_at_any_step_charges_once() {
    let world = World::new("crash").await;
    for (call, fault) in [
        (Call::Create, Fault::LostHangs), // the intent is committed, the provider knows nothing
        (Call::Create, Fault::DoneHangs), // the provider's object exists, its id is not committed
        (Call::Confirm, Fault::LostHangs), // the id is committed, nothing is charged
        (Call::Confirm, Fault::DoneHangs), // charged, the outcome is not committed
    ] {
        let id = world.request("pm_card_visa", false).await;
        world.provider.fail_next(call, fault);
        let engine = world.engine();
        let dying = tokio::spawn(async move { engine.once().await });
        tokio::time::timeout(SOON, world.provider.hangs()).await.unwrap();
        dying.abort();
        assert_eq!(world.payment(id).await.status, Status::Requested, "{call:?} {fault:?}");
        assert!(world.payment(id).await.outcome_pending);
        // Before anything can move through it, the provider's object is known here.
        assert_eq!(object(&world, id).await.is_some(), call == Call::Confirm, "{call:?} {fault:?}");

        world.work().await;
        charged_once(&world, id).await;
    }
    world.end().await;
}

/// The provider's object of a payment's open intent.
async fn object(world: &World, id: PaymentId) -> Option<String> {
    let sql = "select provider_object from payments.intent where payment_id = $1 and state <> 'done'";
    sqlx::query_scalar(sql).bind(id.uuid()).fetch_one(&world.admin).await.unwrap()
}

#[tokio::test]
async fn two_that_work_on_one_intent_commit_one_outcome() {
    let world = World::new("twice").await;
    let id = world.captured().await;
    let request = Request {
        tenant: tenant(),
        payment: id,
        operation: Operation::Refund,
        amount_minor: Some(100),
        idempotency: Idempotency { key: key("r1"), fingerprint: "f".into() },
        actor: ada(),
        reason: None,
        epoch: Epoch(0),
    };
    let Intended::Open(intent) = intend(&world.home, &request).await.unwrap() else { panic!("no intent") };
    let (one, other) = tokio::join!(effect::run(&world.home, &intent), effect::run(&world.home, &intent));
    for ran in [one, other] {
        let Ok(Ran::Settled(Settled::Payment(payment))) = ran else { panic!("{ran:?}") };
        assert_eq!((payment.refunded_minor, payment.version), (100, 3));
    }
    assert_eq!(world.payment(id).await.refunded_minor, 100);
    assert_eq!(world.versions(id).await, [1, 2, 3]);
    world.end().await;
}

#[tokio::test]
async fn no_answer_is_not_an_answer() {
    let world = World::new("unknown").await;
    for (call, fault) in [
        (Call::Create, Fault::Lost),
        (Call::Create, Fault::DoneUnanswered),
        (Call::Confirm, Fault::Lost),
        (Call::Confirm, Fault::DoneUnanswered),
    ] {
        let id = world.request("pm_card_visa", false).await;
        world.provider.fail_next(call, fault);
        world.engine().once().await.unwrap();
        assert!(world.payment(id).await.outcome_pending, "{call:?} {fault:?}");

        world.work().await;
        charged_once(&world, id).await;
    }
    world.end().await;
}

#[tokio::test]
async fn a_provider_that_can_not_be_read_either_is_asked_until_it_can() {
    let world = World::new("silent").await;
    let id = world.request("pm_card_visa", false).await;
    world.provider.fail_next(Call::Confirm, Fault::DoneUnanswered);
    for _ in 0..5 {
        world.provider.fail_next(Call::Retrieve, Fault::Lost);
    }
    world.work().await;
    charged_once(&world, id).await;
    world.end().await;
}

#[tokio::test]
async fn a_decline_is_final_also_when_its_answer_was_lost() {
    let world = World::new("declined").await;
    for unanswered in [false, true] {
        let id = world.request("pm_card_declined", false).await;
        if unanswered {
            world.provider.fail_next(Call::Confirm, Fault::DoneUnanswered);
        }
        world.work().await;
        assert_eq!(world.payment(id).await.status, Status::Declined);
        assert_eq!(world.versions(id).await, [1, 2]);
        assert_eq!(world.balances(id).await, []);
    }
    assert_eq!(world.provider.journal(), []);
    world.end().await;
}

#[tokio::test]
async fn a_refund_without_an_answer_is_pending_and_then_done_once() {
    let world = World::new("refund").await;
    let id = world.captured().await;
    world.provider.fail_next(Call::Refund, Fault::DoneUnanswered);
    let desk = world.desk().answer_within(Duration::from_millis(300));
    let answer = desk.refund(&refund(id, Some(400), "r1"), Epoch(0)).await;
    let Err(Error::OutcomePending(payment)) = answer else { panic!("{answer:?}") };
    assert!(payment.outcome_pending);
    let again = desk.refund(&refund(id, Some(400), "r1"), Epoch(0)).await;
    assert!(matches!(again, Err(Error::InFlight)), "{again:?}");
    let other = desk.refund(&refund(id, Some(1), "r2"), Epoch(0)).await;
    assert!(matches!(other, Err(Error::Busy(_))), "{other:?}");

    world.work().await;
    let answer = desk.refund(&refund(id, Some(400), "r1"), Epoch(0)).await.unwrap();
    assert_eq!((answer.refunded_minor, answer.version), (400, 3));
    assert_eq!(world.provider.journal().len(), 2);
    world.end().await;
}

#[tokio::test]
async fn ten_engines_share_fifty_payments() {
    let world = World::new("engines").await;
    let mut ids = Vec::new();
    for _ in 0..50 {
        ids.push(world.request("pm_card_visa", false).await);
    }
    let engines: Vec<_> = (0..10).map(|_| world.engine()).collect();
    let looks = engines.iter().flat_map(|engine| [engine, engine]).map(Engine::once);
    for look in futures_of(looks).await {
        look.unwrap();
    }
    world.work().await;
    for id in ids {
        charged_once(&world, id).await;
    }
    world.end().await;
}

#[tokio::test]
async fn an_engine_leaves_what_it_does_not_own_and_charges_what_it_gains() {
    let world = World::new("gained").await;
    let id = world.request("pm_card_visa", false).await;
    world.owns.0.store(false, Ordering::SeqCst);
    let shutdown = tokio_util::sync::CancellationToken::new();
    let running = tokio::spawn(world.engine().run(shutdown.clone()));
    let left = async {
        let sql = "select look_at > now() + interval '5 minutes' from payments.payment where id = $1";
        while !sqlx::query_scalar::<_, bool>(sql).bind(id.uuid()).fetch_one(&world.admin).await.unwrap() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, left).await.unwrap();
    assert_eq!(world.provider.journal(), []);
    // Whoever hands a payment over resets its look.
    world.owns.0.store(true, Ordering::SeqCst);
    let gained = "update payments.payment set look_at = now() where id = $1";
    sqlx::query(gained).bind(id.uuid()).execute(&world.admin).await.unwrap();
    let charged = async {
        while world.payment(id).await.status != Status::Captured {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, charged).await.unwrap();
    shutdown.cancel();
    tokio::time::timeout(SOON, running).await.unwrap().unwrap();
    charged_once(&world, id).await;
    world.end().await;
}

/// All at once.
async fn futures_of<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = futures.map(Box::pin).collect();
    let mut done = Vec::new();
    std::future::poll_fn(move |context| {
        waiting.retain_mut(|future| match future.as_mut().poll(context) {
            std::task::Poll::Ready(output) => {
                done.push(output);
                false
            }
            std::task::Poll::Pending => true,
        });
        if waiting.is_empty() {
            std::task::Poll::Ready(std::mem::take(&mut done))
        } else {
            std::task::Poll::Pending
        }
    })
    .await
}
