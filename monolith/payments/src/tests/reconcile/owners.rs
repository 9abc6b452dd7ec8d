//! Whose difference it is, of the two homes.

use super::*;
use crate::provider::{Call, Fault, ObjectStatus};
use crate::reconcile::DifferenceKind;
use crate::tests::moving::{feed, homes, own};

#[tokio::test]
async fn what_no_payment_is_known_of_each_home_tells() {
    let (source, target) = homes("unknown_payment").await;
    source.provider.charge_unasked(&tenant(), PaymentId::new(), euros(500));
    // Neither of them waits for the other: from the seal on the source reconciles nothing.
    for home in [&target, &source] {
        let found = home.reconcile(strict()).await;
        let [difference] = &found[..] else { panic!("{found:?}") };
        assert_eq!((difference.kind, closed(difference)), (DifferenceKind::MissingHere, None));
        assert!(difference.payment.is_none() && difference.detail.contains("no payment"), "{difference:?}");
        home.same_again(strict()).await;
    }
    source.end().await;
    target.end().await;
}

#[tokio::test]
async fn a_payment_of_the_other_home_is_the_other_homes_to_reconcile() {
    let world = World::new("foreign").await;
    let id = world.captured().await;
    world.provider.alter("pi_1", -100);
    assert!(world.reconcile(strict()).await[0].closed.is_none());
    world.owns.0.store(false, Ordering::SeqCst);
    world.provider.refund_unasked("pi_1", euros(300));
    let found = world.reconcile(strict()).await;
    let [difference] = &found[..] else { panic!("{found:?}") };
    assert_eq!(closed(difference), Some(("reconciliation", "its payment is the other home's now")));
    assert_eq!(world.clearing_and_receivable(id).await, (1_000, 0));
    world.end().await;
}

/// Of a home that must not ask for each of its copies whose it is.
#[derive(Debug)]
struct Unasked;

#[async_trait]
impl Authority for Unasked {
    async fn lock(&self, _: &mut PgTransaction<'_>, id: PaymentId) -> Result<Epoch, Error> {
        Err(Error::Unavailable(format!("{id} was asked for")))
    }
}

#[tokio::test]
async fn a_home_that_owns_nothing_compares_nothing_and_its_run_is_whole() {
    let world = World::new("denied").await;
    world.captured().await;
    world.captured().await;
    world.request("pm_card_visa", true).await;
    world.engine().once().await.unwrap();
    world.provider.alter("pi_1", -100);
    assert!(world.reconcile(strict()).await[0].closed.is_none());
    // Money of nobody's payment stays for a person.
    world.provider.charge_unasked(&tenant(), PaymentId::new(), euros(500));
    assert_eq!(world.reconcile(strict()).await.len(), 2);
    sqlx::query("delete from payments.settled").execute(&world.admin).await.unwrap();

    world.provider.deny_list();
    let denied = Home { authority: Arc::new(Unasked), ..world.home.clone() };
    let ran = Reconciler::new(denied, strict()).once().await.unwrap();
    assert_eq!(
        ran,
        Reconciled::Whole { lines: 0 },
        "its bookings are not missing from a list that it has not"
    );
    let found = differences(&world.home, true).await.unwrap();
    let [open, gone] = &found[..] else { panic!("{found:?}") };
    assert!(open.closed.is_none() && open.payment.is_none(), "{open:?}");
    assert_eq!(closed(gone), Some(("reconciliation", "its payment is the other home's now")));
    world.end().await;
}

#[tokio::test]
async fn the_objects_of_the_other_homes_payments_are_not_read() {
    let world = World::new("foreign_states").await;
    let first = world.request("pm_card_visa", true).await;
    for _ in 0..11 {
        world.request("pm_card_visa", true).await;
    }
    world.work().await;
    assert_eq!(world.payment(first).await.status, Status::Authorized);
    world.provider.turn(first, ObjectStatus::Canceled);
    assert!(world.reconcile(strict()).await[0].closed.is_none());

    world.owns.0.store(false, Ordering::SeqCst);
    for _ in 0..12 {
        world.provider.fail_next(Call::Retrieve, Fault::Lost);
    }
    let found = world.reconcile(strict()).await;
    let [difference] = &found[..] else { panic!("{found:?}") };
    assert_eq!(closed(difference), Some(("reconciliation", "its payment is the other home's now")));
    world.end().await;
}

#[tokio::test]
async fn what_a_person_accepted_stays_closed_at_the_next_owner_and_is_not_booked_there() {
    let (source, target) = homes("accepted").await;
    let id = source.captured().await;
    source.provider.refund_unasked("pi_1", euros(300));
    source.provider.fail_next(Call::Refunds, Fault::Lost);
    let found = source.reconcile(strict()).await;
    let [difference] = &found[..] else { panic!("{found:?}") };
    assert_eq!((difference.kind, closed(difference)), (DifferenceKind::MissingHere, None));
    let ann = "ann".parse().unwrap();
    crate::reconcile::accept(&source.home, difference.id, &ann, "paid out by hand").await.unwrap();

    feed(&source, &target, id, 0).await;
    source.give(id, Record::Offer).await.unwrap();
    source.owns.0.store(false, Ordering::SeqCst);
    feed(&source, &target, id, 2).await;
    own(&target, id).await;
    // The provider's object can be read now, and confirms the line.
    let found = target.reconcile(strict()).await;
    let [difference] = &found[..] else { panic!("{found:?}") };
    assert_eq!(closed(difference), Some(("ann", "paid out by hand")));
    assert_eq!(target.clearing_and_receivable(id).await, (1_000, 0), "nothing is booked");
    target.same_again(strict()).await;

    source.owns.1.store(true, Ordering::SeqCst);
    target.give(id, Record::Release).await.unwrap();
    target.owns.0.store(false, Ordering::SeqCst);
    feed(&target, &source, id, 0).await;
    assert_eq!(source.reconcile(strict()).await.len(), 1, "it came back as what is kept here already");
    assert_eq!(source.clearing_and_receivable(id).await, (1_000, 0));
    source.end().await;
    target.end().await;
}

#[tokio::test]
async fn a_difference_that_only_the_old_owner_can_find_stays_open_there() {
    let world = World::new("old_foreign").await;
    world.captured().await;
    world.provider.alter("pi_1", -100);
    assert!(world.reconcile(strict()).await[0].closed.is_none());
    world.provider.age_lines(time::Duration::days(10));
    let aged = "update payments.difference set at = at - interval '10 days'";
    sqlx::query(aged).execute(&world.admin).await.unwrap();
    world.owns.0.store(false, Ordering::SeqCst);
    let found = world.reconcile(strict()).await;
    assert!(found.len() == 1 && found[0].closed.is_none(), "{found:?}");
    world.end().await;
}
