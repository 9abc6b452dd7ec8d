//! What waits: for its line, for a command, for a person.

use super::*;
use crate::Desk as _;
use crate::provider::{Call, Fault, ObjectStatus};
use crate::reconcile::DifferenceKind;

#[tokio::test]
async fn a_hidden_line_that_comes_late_closes_its_difference() {
    let world = World::new("late").await;
    let id = world.captured().await;
    world.provider.hide("pi_1");
    let found = world.reconcile(patient()).await;
    let [difference] = &found[..] else { panic!("{found:?}") };
    assert_eq!((difference.kind, difference.object.as_str()), (DifferenceKind::Late, "pi_1"));
    assert_eq!((difference.here_minor, difference.there_minor), (Some(1_000), None));
    world.same_again(patient()).await;

    world.provider.show("pi_1");
    let found = world.reconcile(patient()).await;
    assert_eq!(closed(&found[0]), Some(("reconciliation", "its line came: txn_000001")));
    assert_eq!(world.clearing_and_receivable(id).await, (1_000, 0), "nothing was booked");
    world.same_again(patient()).await;
    world.end().await;
}

#[tokio::test]
async fn a_captured_payment_whose_line_never_comes_is_missing_until_a_person_accepts_it() {
    let world = World::new("never").await;
    let id = world.captured().await;
    world.provider.hide("pi_1");
    assert_eq!(world.reconcile(patient()).await[0].kind, DifferenceKind::Late);
    let found = world.reconcile(strict()).await;
    let [difference, late] = &found[..] else { panic!("{found:?}") };
    assert_eq!((difference.kind, closed(difference)), (DifferenceKind::MissingThere, None));
    assert_eq!(closed(late), Some(("reconciliation", "it has changed")));
    assert_eq!(world.clearing_and_receivable(id).await, (1_000, 0), "absence decides nothing");

    let ann = "ann".parse().unwrap();
    crate::reconcile::accept(&world.home, difference.id, &ann, "the provider lost its books").await.unwrap();
    let found = world.reconcile(strict()).await;
    assert_eq!(closed(&found[0]), Some(("ann", "the provider lost its books")));
    assert_eq!(found.len(), 2, "what was accepted stays so");
    let again = crate::reconcile::accept(&world.home, found[0].id, &ann, "twice").await;
    assert!(matches!(again, Err(Error::NotFound)), "{again:?}");
    world.same_again(strict()).await;
    world.end().await;
}

#[tokio::test]
async fn a_payment_cancelled_in_the_dashboard_differs_in_state_until_it_is_voided() {
    let world = World::new("state").await;
    let id = world.request("pm_card_visa", true).await;
    world.engine().once().await.unwrap();
    assert!(world.reconcile(strict()).await.is_empty(), "authorized in both");
    world.provider.turn(id, ObjectStatus::Canceled);
    let found = world.reconcile(strict()).await;
    let [difference] = &found[..] else { panic!("{found:?}") };
    assert_eq!((difference.kind, closed(difference)), (DifferenceKind::State, None));
    assert_eq!(difference.detail, "authorized here, canceled there");
    world.same_again(strict()).await;

    let voided = world.desk().void(&void(id, "v1"), Epoch(0)).await.unwrap();
    assert_eq!(voided.status, Status::Voided);
    let found = world.reconcile(strict()).await;
    assert_eq!(closed(&found[0]), Some(("reconciliation", "the payment is voided here now")));
    assert_eq!(world.balances(id).await, []);
    world.end().await;
}

#[tokio::test]
async fn an_open_command_is_the_resolvers_business() {
    let world = World::new("open").await;
    let id = world.captured().await;
    world.provider.fail_next(Call::Refund, Fault::DoneUnanswered);
    let pending =
        world.desk().answer_within(Duration::from_secs(1)).refund(&refund(id, None, "r1"), Epoch(0)).await;
    assert!(matches!(pending, Err(Error::OutcomePending(_))), "{pending:?}");
    world.provider.refund_unasked("pi_1", euros(5));
    assert!(world.reconcile(strict()).await.is_empty());
    world.work().await;
    let found = world.reconcile(strict()).await;
    assert_eq!(found.len(), 1, "with the outcome, only what was not asked for differs: {found:?}");
    world.end().await;
}

#[tokio::test]
async fn a_line_that_waits_for_a_command_is_told_before_it_is_out_of_sight() {
    let world = World::new("waits").await;
    let id = world.captured().await;
    world.provider.fail_next(Call::Refund, Fault::Lost);
    let desk = world.desk().answer_within(Duration::from_millis(200));
    let pending = desk.refund(&refund(id, Some(200), "r1"), Epoch(0)).await;
    assert!(matches!(pending, Err(Error::OutcomePending(_))), "{pending:?}");
    world.provider.refund_unasked("pi_1", euros(5));
    world.provider.age_lines(time::Duration::days(2));
    let found = world.reconcile(strict()).await;
    assert_eq!(found.len(), 2, "the charge waits too: {found:?}");
    assert!(found.iter().all(|it| it.closed.is_none() && it.detail.contains("no outcome yet")), "{found:?}");
    world.work().await;
    let found = world.reconcile(strict()).await;
    assert!(found.iter().all(|difference| difference.closed.is_some()), "{found:?}");
    assert_eq!(world.clearing_and_receivable(id).await, (795, 5));
    world.end().await;
}
