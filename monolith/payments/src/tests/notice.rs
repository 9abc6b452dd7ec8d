//! Notices of the provider, against the books.

use proto::Money;
use time::OffsetDateTime;

use super::snapshot::{restored, take};
use super::stream::published;
use super::*;
use crate::provider::{Call, Fault};
use crate::reconcile::{ReconcileConfig, Reconciler};
use crate::{Delivered, Notice};

fn notice(payment: PaymentId, kind: &str, object: &str) -> Notice {
    Notice {
        id: "evt_1".to_owned(),
        kind: kind.to_owned(),
        object: object.to_owned(),
        status: String::new(),
        payment,
        tenant: tenant(),
        command: None,
        created: OffsetDateTime::UNIX_EPOCH,
    }
}

#[tokio::test]
async fn an_open_command_is_looked_at_at_once_and_nothing_else_changes() {
    let world = World::new("noticed").await;
    world.provider.fail_next(Call::Confirm, Fault::DoneUnanswered);
    let id = world.request("pm_card_visa", false).await;
    world.engine().once().await.unwrap();
    let far = "update payments.intent set next_at = now() + interval '1 hour' where payment_id = $1
               returning provider_object";
    let object: String = sqlx::query_scalar(far).bind(id.uuid()).fetch_one(&world.admin).await.unwrap();
    let before = world.payment(id).await;
    assert_eq!(before.status, Status::Requested);

    let told = notice(id, "payment_intent.succeeded", &object);
    assert_eq!(world.desk().deliver(&told, Epoch(0)).await.unwrap(), Delivered::Applied);
    assert_eq!(world.payment(id).await, before, "a notice moves no money");
    world.engine().once().await.unwrap();
    assert_eq!(world.payment(id).await.status, Status::Captured, "the engine did not wait for an hour");
    assert_eq!(world.desk().deliver(&told, Epoch(0)).await.unwrap(), Delivered::Applied, "and again");
    world.end().await;
}

#[tokio::test]
async fn a_refund_is_known_by_its_commands_transaction() {
    let world = World::new("noticed_refund").await;
    let id = world.captured().await;
    world.desk().refund(&refund(id, Some(100), "r1"), Epoch(0)).await.unwrap();
    let command = "select command_id from payments.intent where payment_id = $1 and operation = 'refund'";
    let command: Uuid = sqlx::query_scalar(command).bind(id.uuid()).fetch_one(&world.admin).await.unwrap();
    let told = |command| Notice { command: Some(command), ..notice(id, "refund.created", "re_1") };
    let desk = world.desk();
    assert_eq!(desk.deliver(&told(command), Epoch(0)).await.unwrap(), Delivered::Applied);
    let surprise = desk.deliver(&told(Uuid::now_v7()), Epoch(0)).await.unwrap();
    assert!(matches!(surprise, Delivered::Surprise(_)), "{surprise:?}");
    world.end().await;
}

#[tokio::test]
async fn only_the_owner_takes_a_notice_of_a_payment_that_it_knows() {
    let world = World::new("noticed_early").await;
    let id = world.captured().await;
    let desk = world.desk();
    let stranger = notice(PaymentId::new(), "payment_intent.succeeded", "pi_1");
    assert_eq!(desk.deliver(&stranger, Epoch(0)).await.unwrap(), Delivered::Early);
    let tenants = Notice { tenant: "globex".parse().unwrap(), ..notice(id, "refund.created", "re_1") };
    assert_eq!(desk.deliver(&tenants, Epoch(0)).await.unwrap(), Delivered::Early, "another tenant's");
    let told = notice(id, "refund.created", "re_1");
    let later = desk.deliver(&told, Epoch(2)).await;
    assert!(matches!(later, Err(Error::Busy(_))), "an epoch that has not arrived: {later:?}");
    let mut tx = world.home.pool.begin().await.unwrap();
    store::lock(&mut tx, id).await.unwrap();
    let busy = desk.deliver(&told, Epoch(0)).await;
    assert!(matches!(busy, Err(Error::Busy(_))), "it does not wait for a lock: {busy:?}");
    tx.rollback().await.unwrap();
    world.owns.0.store(false, Ordering::SeqCst);
    let refused = desk.deliver(&told, Epoch(0)).await;
    assert!(matches!(refused, Err(Error::NotOwner)), "{refused:?}");
    world.end().await;
}

#[tokio::test]
async fn what_reconciliation_has_booked_surprises_nobody() {
    let world = World::new("noticed_booked").await;
    let id = world.captured().await;
    let refund = world.provider.refund_unasked("pi_1", Money::new(300, "EUR".parse().unwrap()));
    world.provider.charge_unasked(&tenant(), id, Money::new(500, "EUR".parse().unwrap()));
    let returned = notice(id, "refund.created", &refund);
    let taken = notice(id, "payment_intent.succeeded", "pi_2");
    let desk = world.desk();
    for told in [&returned, &taken] {
        let judged = desk.deliver(told, Epoch(0)).await.unwrap();
        assert!(matches!(judged, Delivered::Surprise(_)), "{judged:?}");
    }
    let reconciler = Reconciler::new(world.home.clone(), ReconcileConfig::default());
    reconciler.once().await.unwrap();
    for told in [&returned, &taken] {
        assert_eq!(desk.deliver(told, Epoch(0)).await.unwrap(), Delivered::Applied);
    }
    // What an earlier version booked stands in the audit only.
    sqlx::query("delete from payments.adjustment").execute(&world.admin).await.unwrap();
    for told in [&returned, &taken] {
        assert_eq!(desk.deliver(told, Epoch(0)).await.unwrap(), Delivered::Applied);
    }
    let another = notice(id, "refund.created", "re_other");
    assert!(matches!(desk.deliver(&another, Epoch(0)).await.unwrap(), Delivered::Surprise(_)));
    let undone = notice(id, "refund.failed", &refund);
    assert_eq!(
        desk.deliver(&undone, Epoch(0)).await.unwrap(),
        Delivered::Applied,
        "no command of ours had it"
    );
    world.end().await;
}

#[tokio::test]
async fn what_the_other_home_has_booked_surprises_nobody_either() {
    let owner = World::new("noticed_there").await;
    let id = owner.captured().await;
    let refund = owner.provider.refund_unasked("pi_1", Money::new(300, "EUR".parse().unwrap()));
    owner.provider.charge_unasked(&tenant(), id, Money::new(500, "EUR".parse().unwrap()));
    let reconciler = Reconciler::new(owner.home.clone(), ReconcileConfig::default());
    reconciler.once().await.unwrap();

    let by_events = restored(&owner, id, 1, "noticed_events").await;
    let version = take(&owner, id).await;
    let by_snapshot = restored(&owner, id, version, "noticed_snapshot").await;
    let by_both = World::new("noticed_both").await;
    by_both.owns.0.store(false, Ordering::SeqCst);
    for (version, mut event) in published(&owner, id).await {
        // As an earlier version told it.
        if let PaymentStream::Adjusted(adjusted) = &mut event {
            adjusted.adjustment.as_mut().unwrap().payment_intent.clear();
        }
        by_both.apply(id, version, event).await.unwrap();
    }
    for heir in [by_events, by_snapshot, by_both] {
        heir.owns.0.store(true, Ordering::SeqCst);
        let desk = heir.desk();
        for told in [notice(id, "refund.created", &refund), notice(id, "payment_intent.succeeded", "pi_2")] {
            assert_eq!(desk.deliver(&told, Epoch(0)).await.unwrap(), Delivered::Applied, "{}", told.kind);
        }
        let another = notice(id, "refund.created", "re_other");
        assert!(matches!(desk.deliver(&another, Epoch(0)).await.unwrap(), Delivered::Surprise(_)));
        heir.end().await;
    }
    owner.end().await;
}
