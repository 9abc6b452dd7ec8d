//! Money that the provider moved, and that its object confirms: booked once.

use super::*;
use crate::Desk as _;
use crate::provider::ObjectStatus;
use crate::reconcile::DifferenceKind;

#[tokio::test]
async fn a_refund_made_in_the_providers_dashboard_is_booked() {
    let world = World::new("dashboard").await;
    let id = world.captured().await;
    let refund = world.provider.refund_unasked("pi_1", euros(300));

    let found = world.reconcile(strict()).await;
    let [difference] = &found[..] else { panic!("{found:?}") };
    assert_eq!((difference.kind, difference.there_minor), (DifferenceKind::MissingHere, Some(-300)));
    assert_eq!(difference.payment.as_ref().map(|(payment, _)| *payment), Some(id));
    let reason = format!("the provider returned this by {refund}, and its object confirms it");
    assert_eq!(closed(difference), Some(("reconciliation", reason.as_str())));
    assert_eq!(world.clearing_and_receivable(id).await, (700, 300));
    assert_eq!(world.payment(id).await.status, Status::Captured, "the state is the commands' business");
    assert_eq!(world.versions(id).await, [1, 2, 3], "and the other home hears of it");
    world.same_again(strict()).await;
    world.end().await;
}

#[tokio::test]
async fn a_charge_that_nobody_asked_for_is_booked() {
    let world = World::new("unasked").await;
    let (id, declined) = (world.captured().await, world.request("pm_card_declined", false).await);
    world.engine().once().await.unwrap();
    world.provider.charge_unasked(&tenant(), id, euros(500));
    world.provider.charge_unasked(&tenant(), declined, euros(1_000));
    world.provider.charge_again("pi_1");

    let found = world.reconcile(strict()).await;
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found.iter().all(|difference| difference.kind == DifferenceKind::MissingHere));
    assert!(found.iter().all(|difference| difference.closed.is_some()), "{found:?}");
    assert_eq!(world.clearing_and_receivable(id).await, (2_500, -1_500), "owed to whoever paid");
    assert_eq!(world.clearing_and_receivable(declined).await, (1_000, -1_000));
    world.same_again(strict()).await;
    world.end().await;
}

#[tokio::test]
async fn an_altered_amount_is_booked_only_when_the_object_confirms_it() {
    let world = World::new("altered").await;
    let id = world.captured().await;
    world.provider.alter("pi_1", -100);
    let found = world.reconcile(strict()).await;
    let [difference] = &found[..] else { panic!("{found:?}") };
    let amounts = (difference.here_minor, difference.there_minor);
    assert_eq!((difference.kind, amounts), (DifferenceKind::Amount, (Some(1_000), Some(900))));
    assert_eq!(closed(difference), None, "the provider's object still says 1,000");
    assert_eq!(world.clearing_and_receivable(id).await, (1_000, 0));
    world.same_again(strict()).await;

    world.provider.received("pi_1", 900);
    let found = world.reconcile(strict()).await;
    assert!(found[0].closed.is_some() && found.len() == 1, "{found:?}");
    assert_eq!(world.clearing_and_receivable(id).await, (900, 100));

    // It was an error there, which is put right: the same line gets a second adjustment.
    world.provider.alter("pi_1", 0);
    world.provider.received("pi_1", 1_000);
    let found = world.reconcile(strict()).await;
    assert!(found.len() == 2 && found.iter().all(|difference| difference.closed.is_some()), "{found:?}");
    assert_eq!(world.clearing_and_receivable(id).await, (1_000, 0));
    world.same_again(strict()).await;
    world.end().await;
}

#[tokio::test]
async fn a_refund_that_fails_later_comes_back_to_the_books() {
    let world = World::new("failed").await;
    let id = world.captured().await;
    world.desk().refund(&refund(id, Some(300), "r1"), Epoch(0)).await.unwrap();
    assert!(world.reconcile(strict()).await.is_empty());
    world.provider.fail_refund("re_1", euros(300));
    let found = world.reconcile(strict()).await;
    assert!(found.len() == 1 && found[0].closed.is_some(), "{found:?}");
    assert_eq!(world.clearing_and_receivable(id).await, (1_000, -300), "owed to whoever was to get it");
    world.same_again(strict()).await;
    world.end().await;
}

#[tokio::test]
async fn a_reservation_captured_in_the_dashboard_is_booked_by_its_capture_and_once() {
    let world = World::new("captured_there").await;
    let id = world.request("pm_card_visa", true).await;
    world.engine().once().await.unwrap();
    let object = world.payment(id).await.provider_ref.unwrap();
    world.provider.turn(id, ObjectStatus::Succeeded);
    world.provider.received(&object, 1_000);
    world.provider.charge_again(&object);
    let found = world.reconcile(strict()).await;
    let kinds: Vec<_> = found.iter().map(|it| (it.kind, it.closed.is_none())).collect();
    assert_eq!(kinds, [(DifferenceKind::State, true), (DifferenceKind::MissingHere, true)], "newest first");
    assert_eq!(world.clearing_and_receivable(id).await, (0, 0), "the capture would book it again");
    // The line is out of the window when the merchant captures.
    world.provider.age_lines(time::Duration::days(10));
    let aged = "update payments.difference set at = at - interval '10 days' where kind = 'missing_here'";
    sqlx::query(aged).execute(&world.admin).await.unwrap();
    world.desk().capture(&capture(id, None, "c1"), Epoch(0)).await.unwrap();
    let found = world.reconcile(strict()).await;
    assert!(found.iter().all(|difference| difference.closed.is_some()), "{found:?}");
    assert_eq!(world.clearing_and_receivable(id).await, (1_000, 0));
    world.end().await;
}
