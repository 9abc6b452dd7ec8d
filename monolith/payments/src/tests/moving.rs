//! Payments that leave a home for the other one, and come back. Who owns them is told here; `strangler` decides it elsewhere.

use super::replay::stream;
use super::*;
use crate::Operation;
use crate::provider::{Call, Fault};

/// Two homes with one provider. The second owns nothing.
pub(super) async fn homes(name: &str) -> (World, World) {
    let source = World::new(&format!("{name}_source")).await;
    let mut target = World::new(&format!("{name}_target")).await;
    target.home.provider = source.provider.clone();
    target.home.name = "target";
    target.owns.0.store(false, Ordering::SeqCst);
    (source, target)
}

/// Applies at one home what the other published of a payment after this version.
pub(super) async fn feed(from: &World, to: &World, id: PaymentId, after: i64) {
    for (version, event) in stream(from, id).await.into_iter().filter(|(version, _)| *version > after) {
        to.apply(id, version, event).await.unwrap();
    }
}

/// The home owns all payments from now on.
pub(super) async fn own(world: &World, id: PaymentId) {
    let mut tx = world.home.pool.begin().await.unwrap();
    movable::gained(&mut tx, &named(&[id])).await.unwrap();
    tx.commit().await.unwrap();
    world.owns.0.store(true, Ordering::SeqCst);
}

fn moved(world: &World, operation: Operation) -> Vec<i64> {
    let moved = world.provider.journal().into_iter().filter(|it| it.operation == operation);
    moved.map(|it| it.amount_minor).collect()
}

/// A refund whose outcome is not known.
async fn unknown_refund(world: &World, id: PaymentId, fault: Fault) {
    world.provider.fail_next(Call::Refund, fault);
    let desk = world.desk().answer_within(Duration::from_millis(300));
    let pending = desk.refund(&refund(id, Some(300), "open"), Epoch(0)).await;
    assert!(matches!(pending, Err(Error::OutcomePending(_))), "{pending:?}");
}

#[tokio::test]
async fn a_payment_is_handed_over_refunded_there_and_handed_back() {
    let (source, target) = homes("moved").await;
    let id = source.captured().await;
    let first = refund(id, Some(300), "r1");
    let answer = source.desk().refund(&first, Epoch(0)).await.unwrap();
    feed(&source, &target, id, 0).await;

    assert_eq!(source.give(id, Record::Offer).await.unwrap().version, 4);
    source.owns.0.store(false, Ordering::SeqCst);
    feed(&source, &target, id, 3).await;
    assert!(matches!(target.desk().refund(&first, Epoch(0)).await, Err(Error::NotOwner)), "not granted yet");
    own(&target, id).await;
    assert_eq!(target.desk().refund(&first, Epoch(0)).await.unwrap(), answer, "its key came along");
    let second = target.desk().refund(&refund(id, Some(200), "r2"), Epoch(0)).await.unwrap();
    assert_eq!((second.version, second.refunded_minor), (5, 500));

    source.owns.1.store(true, Ordering::SeqCst);
    target.give(id, Record::Release).await.unwrap();
    target.owns.0.store(false, Ordering::SeqCst);
    feed(&target, &source, id, 0).await;
    let last = source.desk().refund(&refund(id, None, "r3"), Epoch(0)).await.unwrap();
    assert_eq!((last.version, last.status), (7, Status::Refunded));
    assert_eq!(moved(&source, Operation::Refund), [300, 200, 500]);
    feed(&source, &target, id, 4).await;
    assert_eq!(target.payment(id).await, source.payment(id).await);
    assert_eq!(target.balances(id).await, source.balances(id).await);
    source.end().await;
    target.end().await;
}

#[tokio::test]
async fn a_payment_that_is_not_begun_is_charged_by_the_home_that_gains_it() {
    let (source, target) = homes("unbegun").await;
    let id = source.request("pm_card_visa", false).await;
    feed(&source, &target, id, 0).await;
    source.give(id, Record::Offer).await.unwrap();
    source.owns.0.store(false, Ordering::SeqCst);
    feed(&source, &target, id, 1).await;
    own(&target, id).await;
    source.hurry().await;
    source.engine().once().await.unwrap();
    assert_eq!(source.provider.journal(), [], "it is no more the source's");
    target.engine().once().await.unwrap();
    assert_eq!(target.payment(id).await.status, Status::Captured);
    assert_eq!(moved(&source, Operation::Charge), [1_000]);
    source.end().await;
    target.end().await;
}

#[tokio::test]
async fn what_is_under_way_pins_a_payment_and_the_others_may_go() {
    let world = World::new("pinned").await;
    let (open, taken, behind) = (world.captured().await, world.captured().await, world.captured().await);
    let (parked, unknown) = (world.captured().await, PaymentId::new());
    let free = world.request("pm_card_visa", false).await;
    unknown_refund(&world, open, Fault::Lost).await;
    let mut other = world.home.pool.begin().await.unwrap();
    store::lock(&mut other, taken).await.unwrap();
    let mut tx = world.home.pool.begin().await.unwrap();
    outbox::publish(&mut tx, &requested(behind, "pm_card_visa", false)).await.unwrap();
    sqlx::query("select outbox.register('story.follows')").execute(&mut *tx).await.unwrap();
    let park = "select outbox.park('story.follows', 'payments.v1', $1, 9, gen_random_uuid(), '', '{}', 'early', null, 9, 9)";
    sqlx::query(park).bind(parked.to_string()).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();

    let all = [open, taken, behind, parked, unknown, free];
    let mut tx = world.home.pool.begin().await.unwrap();
    let found = movable::pinned(&mut tx, &named(&all)).await.unwrap();
    let why = |id: PaymentId, why: &str| (id.to_string(), why.to_owned());
    assert_eq!(
        found,
        [
            why(open, "a refund is under way"),
            why(taken, "another transaction has its row"),
            why(behind, "it is at version 2 here, and its stream at 3"),
            why(parked, "an event of it is parked (handler story.follows)"),
            why(unknown, "its first event is not applied here yet"),
        ]
    );
    let given = movable::give(&mut tx, &[(behind.to_string().as_str(), Epoch(2))], Record::Offer).await;
    assert!(matches!(given, Err(Error::Behind { here: 2, head: 3 })), "{given:?}");
    tx.rollback().await.unwrap();
    other.rollback().await.unwrap();

    world.work().await;
    let mut tx = world.home.pool.begin().await.unwrap();
    let found = movable::pinned(&mut tx, &named(&[open, taken, free])).await.unwrap();
    assert_eq!(found, [], "what was begun has ended");
    tx.rollback().await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn a_payment_that_is_called_back_begins_nothing_and_ends_what_was_begun() {
    let world = World::new("recalled").await;
    let id = world.captured().await;
    let first = refund(id, Some(200), "first");
    let answer = world.desk().refund(&first, Epoch(0)).await.unwrap();
    unknown_refund(&world, id, Fault::DoneUnanswered).await;
    world.owns.1.store(true, Ordering::SeqCst);
    let begun = world.desk().refund(&refund(id, Some(1), "new"), Epoch(0)).await;
    assert!(matches!(begun, Err(Error::Busy("it changes its owner"))), "{begun:?}");
    assert_eq!(world.desk().refund(&first, Epoch(0)).await.unwrap(), answer, "its repeat");
    let open = world.desk().refund(&refund(id, Some(300), "open"), Epoch(0)).await;
    assert!(matches!(open, Err(Error::InFlight)), "{open:?}");
    let reused = world.desk().refund(&refund(id, Some(299), "open"), Epoch(0)).await;
    assert!(matches!(reused, Err(Error::KeyReused)), "{reused:?}");
    assert!(world.give(id, Record::Release).await.is_err(), "busy until it has an outcome");
    world.work().await;
    assert_eq!(world.payment(id).await.refunded_minor, 500);
    assert_eq!(world.give(id, Record::Release).await.unwrap().version, 5);
    assert_eq!(moved(&world, Operation::Refund), [200, 300]);
    world.end().await;
}

#[tokio::test]
async fn a_copy_that_is_not_its_owners_is_mended_when_it_is_offered() {
    let (source, target) = homes("differs").await;
    let id = source.captured().await;
    feed(&source, &target, id, 0).await;
    let sql = "update payments.payment set captured_minor = 900 where id = $1";
    sqlx::query(sql).bind(id.uuid()).execute(&target.admin).await.unwrap();
    source.give(id, Record::Offer).await.unwrap();
    feed(&source, &target, id, 2).await;
    assert_eq!(target.payment(id).await, source.payment(id).await);
    // One that has nothing of it starts from the offer.
    let late = World::new("differs_late").await;
    late.owns.0.store(false, Ordering::SeqCst);
    feed(&source, &late, id, 2).await;
    assert_eq!(late.payment(id).await, source.payment(id).await);
    assert_eq!(late.balances(id).await, source.balances(id).await);
    source.end().await;
    target.end().await;
    late.end().await;
}

#[tokio::test]
async fn a_copy_that_can_not_be_mended_is_not_taken_over() {
    let (source, target) = homes("unmended").await;
    let id = source.request("pm_card_visa", false).await;
    feed(&source, &target, id, 0).await;
    // What no event ever changes.
    let sql = "update payments.payment set amount_minor = 900 where id = $1";
    sqlx::query(sql).bind(id.uuid()).execute(&target.admin).await.unwrap();
    source.give(id, Record::Offer).await.unwrap();
    let (version, offer) = stream(&source, id).await.pop().unwrap();
    let refused = target.apply(id, version, offer).await.unwrap_err();
    assert!(refused.to_string().contains("can't be made the owner's"), "{refused}");
    assert_eq!(target.payment(id).await.version, 1);
    source.end().await;
    target.end().await;
}

#[tokio::test]
async fn a_home_refuses_to_be_given_what_it_owns_and_a_release_that_was_cancelled_gives_nothing() {
    let (source, target) = homes("refuses").await;
    let id = source.captured().await;
    feed(&source, &target, id, 0).await;
    source.give(id, Record::Offer).await.unwrap();
    let (version, offer) = stream(&source, id).await.pop().unwrap();
    target.owns.0.store(true, Ordering::SeqCst);
    let refused = target.apply(id, version, offer.clone()).await.unwrap_err();
    assert!(matches!(refused.downcast_ref(), Some(Error::ForeignWrite)), "{refused}");
    assert_eq!(target.payment(id).await.version, 2);

    target.owns.0.store(false, Ordering::SeqCst);
    target.apply(id, version, offer).await.unwrap();
    own(&target, id).await;
    target.give(id, Record::Release).await.unwrap();
    source.owns.0.store(false, Ordering::SeqCst);
    feed(&target, &source, id, version).await;
    assert!(!source.owns.0.load(Ordering::SeqCst), "nobody calls it back any more");
    assert_eq!(source.payment(id).await.version, version + 1);
    source.end().await;
    target.end().await;
}

#[tokio::test]
async fn a_copy_is_known_once_it_was_started_and_while_it_awaits_no_snapshot() {
    let world = World::new("known").await;
    let (whole, torn) = (world.captured().await, world.captured().await);
    let mut tx = world.home.pool.begin().await.unwrap();
    sqlx::query("select outbox.register('story.replica')").execute(&mut *tx).await.unwrap();
    let sql = "select outbox.await_snapshot('story.replica', 'payments.v1', $1)";
    sqlx::query(sql).bind(torn.to_string()).execute(&mut *tx).await.unwrap();
    let known = movable::known(&mut tx, &named(&[torn, PaymentId::new(), whole])).await.unwrap();
    assert_eq!(known, named(&[whole]));
    let nobodys = movable::known(&mut tx, &["42".to_owned()]).await;
    assert!(matches!(nobodys, Err(Error::Corrupt { what: "a payment's key", .. })), "{nobodys:?}");
    tx.rollback().await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn a_payment_that_comes_while_an_engine_leaves_it_to_the_other_home_is_looked_at_at_once() {
    let world = World::new("left").await;
    let id = world.request("pm_card_visa", false).await;
    let claim = async || {
        let mut connection = world.home.pool.acquire().await.unwrap();
        let claimed = store::claim_requested(&mut connection, &mut store::Floors::default(), 4).await;
        claimed.unwrap().work.pop().unwrap()
    };
    let due = async || {
        let sql = "select look_at <= clock_timestamp() and not elsewhere from payments.payment where id = $1";
        sqlx::query_scalar::<_, bool>(sql).bind(id.uuid()).fetch_one(&world.admin).await.unwrap()
    };
    let claimed = claim().await;
    assert!(!due().await, "a claimed one rests");
    own(&world, id).await;
    store::leave(&world.home.pool, claimed).await.unwrap();
    assert!(due().await, "it was gained after it was claimed");
    store::leave(&world.home.pool, claim().await).await.unwrap();
    assert!(!due().await, "it is the other home's");
    world.end().await;
}
