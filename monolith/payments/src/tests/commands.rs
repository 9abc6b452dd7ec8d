//! What the desk allows, refuses and repeats.

use super::*;
use crate::provider::{Call, Fault};
use crate::{Desk as _, Operation, Page, Refusal};

#[tokio::test]
async fn a_reserved_payment_is_captured_in_part_and_refunded_in_steps() {
    let world = World::new("manual").await;
    let (desk, id) = (world.desk(), world.request("pm_card_visa", true).await);
    world.engine().once().await.unwrap();
    assert_eq!(world.payment(id).await.status, Status::Authorized);

    let too_much = desk.capture(&capture(id, Some(1_001), "c0"), Epoch(1)).await;
    assert!(matches!(
        too_much,
        Err(Error::Refused(Refusal::AmountTooLarge { asked: 1_001, available: 1_000 }))
    ));
    let captured = desk.capture(&capture(id, Some(700), "c1"), Epoch(1)).await.unwrap();
    assert_eq!((captured.status, captured.captured_minor, captured.version), (Status::Captured, 700, 3));

    let refunded = desk.refund(&refund(id, Some(300), "r1"), Epoch(1)).await.unwrap();
    assert_eq!((refunded.status, refunded.refunded_minor), (Status::Captured, 300));
    let too_much = desk.refund(&refund(id, Some(401), "r2"), Epoch(1)).await;
    assert!(matches!(too_much, Err(Error::Refused(Refusal::AmountTooLarge { asked: 401, available: 400 }))));
    let refunded = desk.refund(&refund(id, None, "r3"), Epoch(1)).await.unwrap();
    assert_eq!((refunded.status, refunded.refunded_minor, refunded.version), (Status::Refunded, 700, 5));
    // The fee on 700 is 10.5, so 11; refunds do not return it.
    assert_eq!(
        world.balances(id).await,
        [("clearing".into(), 0), ("fees".into(), -11), ("payable".into(), 11)]
    );
    assert_eq!(world.versions(id).await, [1, 2, 3, 4, 5]);
    world.end().await;
}

#[tokio::test]
async fn a_voided_payment_allows_nothing_more() {
    let world = World::new("void").await;
    let (desk, id) = (world.desk(), world.request("pm_card_visa", true).await);
    let early = desk.void(&void(id, "v0"), Epoch(0)).await;
    assert!(matches!(
        early,
        Err(Error::Refused(Refusal::IllegalTransition { status: Status::Requested, .. }))
    ));
    world.engine().once().await.unwrap();
    let voided = desk.void(&void(id, "v1"), Epoch(0)).await.unwrap();
    assert_eq!((voided.status, voided.version), (Status::Voided, 3));
    let late = desk.capture(&capture(id, None, "c1"), Epoch(0)).await;
    let Err(Error::Refused(Refusal::IllegalTransition { status, operation })) = late else {
        panic!("{late:?}")
    };
    assert_eq!((status, operation), (Status::Voided, Operation::Capture));
    assert_eq!(world.provider.journal(), []);
    world.end().await;
}

#[tokio::test]
async fn a_hundred_refunds_with_one_key_are_one_refund() {
    let world = World::new("hundred").await;
    let (desk, id) = (world.desk(), world.captured().await);
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let desk = desk.clone();
        requests.spawn(async move { desk.refund(&refund(id, Some(100), "one"), Epoch(0)).await });
    }
    let answers = tokio::time::timeout(SOON, requests.join_all()).await.unwrap();
    for answer in &answers {
        match answer {
            Ok(payment) => assert_eq!((payment.refunded_minor, payment.version), (100, 3)),
            Err(error) => assert!(matches!(error, Error::InFlight), "{error:?}"),
        }
    }
    assert!(answers.iter().any(Result::is_ok));
    let refunds = world.provider.journal().into_iter().filter(|it| it.operation == Operation::Refund);
    assert_eq!(refunds.map(|it| it.amount_minor).collect::<Vec<_>>(), [100]);
    assert_eq!(world.payment(id).await.refunded_minor, 100);
    world.end().await;
}

#[tokio::test]
async fn a_key_answers_for_its_request_only() {
    let world = World::new("keys").await;
    let (desk, id) = (world.desk(), world.captured().await);
    let first = desk.refund(&refund(id, Some(100), "k"), Epoch(0)).await.unwrap();
    desk.refund(&refund(id, Some(200), "other"), Epoch(0)).await.unwrap();
    assert_eq!(desk.refund(&refund(id, Some(100), "k"), Epoch(0)).await.unwrap(), first);
    let reused = desk.refund(&refund(id, Some(101), "k"), Epoch(0)).await;
    assert!(matches!(reused, Err(Error::KeyReused)));
    // A request that was refused before anything was asked leaves its key free.
    let refused = desk.refund(&refund(id, Some(5_000), "again"), Epoch(0)).await;
    assert!(matches!(refused, Err(Error::Refused(Refusal::AmountTooLarge { .. }))));
    assert_eq!(desk.refund(&refund(id, Some(1), "again"), Epoch(0)).await.unwrap().refunded_minor, 301);
    world.end().await;
}

#[tokio::test]
async fn a_foreign_tenant_a_foreign_owner_and_a_bad_amount_are_refused() {
    let world = World::new("foreign").await;
    let (desk, id) = (world.desk(), world.captured().await);
    let stranger = Refund { tenant: "other".parse().unwrap(), ..refund(id, None, "r") };
    assert!(matches!(desk.refund(&stranger, Epoch(0)).await, Err(Error::NotFound)));
    assert!(matches!(desk.find(&stranger.tenant, id).await, Err(Error::NotFound)));
    let page = Page { size: 50, after: None };
    assert_eq!(desk.list(&stranger.tenant, page).await.unwrap(), []);
    assert_eq!(desk.list(&tenant(), page).await.unwrap().len(), 1);
    let negative = desk.refund(&refund(id, Some(-1), "r"), Epoch(0)).await;
    assert!(matches!(negative, Err(Error::Invalid(fields)) if fields[0].field == "amount_minor"));
    let ahead = desk.refund(&refund(id, None, "r"), Epoch(2)).await;
    assert!(matches!(ahead, Err(Error::Busy(_))));
    world.owns.0.store(false, Ordering::SeqCst);
    assert!(matches!(desk.refund(&refund(id, None, "r"), Epoch(0)).await, Err(Error::NotOwner)));
    assert_eq!(world.provider.journal().len(), 1);
    world.end().await;
}

#[tokio::test]
async fn a_list_has_pages_newest_first() {
    let world = World::new("pages").await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.insert(0, world.request("pm_card_visa", false).await);
    }
    let desk = world.desk();
    let first = desk.list(&tenant(), Page { size: 3, after: None }).await.unwrap();
    let rest = desk.list(&tenant(), Page { size: 3, after: Some(first[2].id) }).await.unwrap();
    assert_eq!(first.iter().chain(&rest).map(|it| it.id).collect::<Vec<_>>(), ids);
    let too_many = desk.list(&tenant(), Page { size: 201, after: None }).await;
    assert!(matches!(too_many, Err(Error::Invalid(_))));
    world.end().await;
}

#[tokio::test]
async fn a_caller_that_leaves_stops_nothing() {
    let world = World::new("leaves").await;
    let (desk, id) = (world.desk(), world.captured().await);
    world.provider.fail_next(Call::Refund, Fault::DoneHangs);
    let leaving = tokio::spawn({
        let desk = desk.clone();
        async move { desk.refund(&refund(id, Some(100), "r"), Epoch(0)).await }
    });
    tokio::time::timeout(SOON, world.provider.hangs()).await.unwrap();
    leaving.abort();
    world.work().await;
    assert_eq!(desk.refund(&refund(id, Some(100), "r"), Epoch(0)).await.unwrap().refunded_minor, 100);

    // Dropped before its first transaction is over: the command ends by itself, whole or not at all.
    let dropped = refund(id, Some(50), "dropped");
    let mut request = Box::pin(desk.refund(&dropped, Epoch(0)));
    std::future::poll_fn(|context| std::task::Poll::Ready(request.as_mut().poll(context).is_pending())).await;
    drop(request);
    let done = async {
        while world.payment(id).await.refunded_minor != 150 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, done).await.unwrap();
    world.end().await;
}

/// A captured payment of 1,000 of another tenant.
async fn captured_of(world: &World, tenant: &str) -> PaymentId {
    let id = PaymentId::new();
    let event = wire::PaymentRequested { tenant: tenant.to_owned(), ..requested(id, "pm_card_visa", false) };
    let mut tx = world.home.pool.begin().await.unwrap();
    outbox::publish(&mut tx, &event).await.unwrap();
    tx.commit().await.unwrap();
    world.apply(id, 1, PaymentStream::Requested(event)).await.unwrap();
    world.engine().once().await.unwrap();
    id
}

/// How many intents were asked and not answered.
async fn unknown(world: &World) -> i64 {
    let sql = "select count(*) from payments.intent where state = 'unknown'";
    sqlx::query_scalar(sql).fetch_one(&world.admin).await.unwrap()
}

#[tokio::test]
async fn a_tenant_whose_commands_hang_leaves_other_tenants_and_known_keys_their_answers() {
    let world = World::new("turns").await;
    let desk = world.desk().commands_max(4);
    let done = world.captured().await;
    let payments = [world.captured().await, world.captured().await, world.captured().await];
    let other = captured_of(&world, "other").await;
    let answered = desk.refund(&refund(done, Some(100), "k"), Epoch(0)).await.unwrap();

    let mut hanging = tokio::task::JoinSet::new();
    for id in [payments[0], payments[1]] {
        world.provider.fail_next(Call::Refund, Fault::LostHangs);
        let desk = desk.clone();
        hanging.spawn(async move { desk.refund(&refund(id, Some(100), "k"), Epoch(0)).await });
        tokio::time::timeout(SOON, world.provider.hangs()).await.unwrap();
    }
    // Its half is taken.
    let refused = desk.refund(&refund(payments[2], Some(100), "k"), Epoch(0)).await.unwrap_err();
    assert!(matches!(&refused, Error::Unavailable(why) if why.contains("too many commands")), "{refused:?}");
    assert!(refused.is_retryable());
    assert_eq!(desk.refund(&refund(done, Some(100), "k"), Epoch(0)).await.unwrap(), answered);
    let reused = desk.refund(&refund(done, Some(101), "k"), Epoch(0)).await;
    assert!(matches!(reused, Err(Error::KeyReused)), "{reused:?}");
    let theirs = Refund { tenant: "other".parse().unwrap(), ..refund(other, Some(100), "k") };
    assert_eq!(desk.refund(&theirs, Epoch(0)).await.unwrap().refunded_minor, 100);
    assert!(hanging.try_join_next().is_none(), "both still hang");
    hanging.abort_all();
    world.end().await;
}

#[tokio::test]
async fn a_command_whose_caller_waits_keeps_its_turn_and_one_whose_caller_left_does_not() {
    let world = World::new("waits").await;
    let desk = world.desk().commands_max(2);
    let (first, second) = (world.captured().await, world.captured().await);
    world.provider.fail_next(Call::Refund, Fault::Lost);
    let waiting = tokio::spawn({
        let desk = desk.clone();
        async move { desk.refund(&refund(first, Some(100), "k"), Epoch(0)).await }
    });
    let tried = async {
        while unknown(&world).await == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, tried).await.unwrap();
    // However short the tries are while the provider is away: no more than a bounded number is accepted at once.
    let refused = desk.refund(&refund(second, Some(100), "k"), Epoch(0)).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    assert_eq!(unknown(&world).await, 1, "nothing was accepted");
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    let next = async {
        loop {
            match desk.refund(&refund(second, Some(100), "k"), Epoch(0)).await {
                Err(Error::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(10)).await,
                answer => break answer,
            }
        }
    };
    assert_eq!(tokio::time::timeout(SOON, next).await.unwrap().unwrap().refunded_minor, 100);
    world.work().await;
    assert_eq!(desk.refund(&refund(first, Some(100), "k"), Epoch(0)).await.unwrap().refunded_minor, 100);
    world.end().await;
}
