//! Adjustments: the books follow the provider, with a reason.

use super::*;
use crate::effect::{Intended, Request, intend};
use crate::{Adjustment, Desk as _, Idempotency, Operation, Refusal};

fn difference(delta_minor: i64) -> Adjustment {
    Adjustment {
        id: Uuid::now_v7(),
        delta_minor,
        object: "ch_7".into(),
        payment_intent: None,
        reason: "a charge that nobody asked for".into(),
    }
}

#[tokio::test]
async fn an_adjustment_is_booked_once_and_changes_no_state() {
    let world = World::new("adjust").await;
    let id = world.captured().await;
    let (before, more) = (world.payment(id).await, difference(70));
    let after = world.adjust(id, &more, "anna").await.unwrap();
    assert_eq!(after, Payment { version: 3, ..before });
    // Recorded again, by whomever, it is the same one.
    assert_eq!(world.adjust(id, &more, "ben").await.unwrap(), after);
    world.adjust(id, &difference(-20), "anna").await.unwrap();
    assert_eq!(
        world.balances(id).await,
        [
            ("clearing".into(), 1_050),
            ("fees".into(), -15),
            ("payable".into(), -985),
            ("receivable".into(), -50)
        ]
    );
    assert_eq!(world.versions(id).await, [1, 2, 3, 4]);
    let sql = "select actor, reason, home from payments.audit where payment_id = $1 and action = 'adjusted'";
    let told: Vec<(String, String, String)> =
        sqlx::query_as(sql).bind(id.uuid()).fetch_all(&world.admin).await.unwrap();
    let line = ("anna".into(), "a charge that nobody asked for".into(), "source".into());
    assert_eq!(told, [line.clone(), line]);
    // The rules go by the state, which is as before.
    let refunded = world.desk().refund(&refund(id, None, "r"), Epoch(0)).await.unwrap();
    assert_eq!((refunded.status, refunded.refunded_minor), (Status::Refunded, 1_000));
    world.end().await;
}

#[tokio::test]
async fn an_adjustment_of_nothing_and_one_of_a_foreign_or_busy_payment_are_refused() {
    let world = World::new("unadjusted").await;
    let id = world.captured().await;
    let nothing = world.adjust(id, &difference(0), "anna").await;
    assert!(matches!(nothing, Err(Error::Refused(Refusal::EmptyAdjustment))), "{nothing:?}");
    let too_much = world.adjust(id, &difference(i64::MIN), "anna").await;
    assert!(matches!(too_much, Err(Error::Refused(Refusal::Money(_)))), "{too_much:?}");

    let booked = difference(5);
    world.adjust(id, &booked, "anna").await.unwrap();
    let other = world.captured().await;
    let taken = world.adjust(other, &booked, "anna").await;
    assert!(matches!(taken, Err(Error::Corrupt { .. })), "{taken:?}");

    // A command without an outcome may be the very difference.
    let request = Request {
        tenant: tenant(),
        payment: other,
        operation: Operation::Refund,
        amount_minor: Some(100),
        idempotency: Idempotency { key: key("r1"), fingerprint: "f".into() },
        actor: ada(),
        reason: None,
        epoch: Epoch(0),
    };
    assert!(matches!(intend(&world.home, &request).await, Ok(Intended::Open(_))));
    let busy = world.adjust(other, &difference(-100), "anna").await;
    assert!(matches!(busy, Err(Error::Busy(_))), "{busy:?}");

    world.owns.0.store(false, Ordering::SeqCst);
    let foreign = world.adjust(id, &difference(5), "anna").await;
    assert!(matches!(foreign, Err(Error::NotOwner)), "{foreign:?}");
    assert_eq!((world.versions(id).await, world.versions(other).await), (vec![1, 2, 3], vec![1, 2]));
    world.end().await;
}

#[tokio::test]
async fn books_that_have_gone_on_since_they_were_compared_are_not_adjusted() {
    let world = World::new("stale").await;
    let id = world.captured().await;
    let compared = world.payment(id).await.version;
    world.desk().refund(&refund(id, Some(300), "r1"), Epoch(0)).await.unwrap();
    let late = record_adjustment(&world.home, id, compared, &difference(-300), "anna").await;
    assert!(matches!(late, Err(Error::Behind { here: 2, head: 3 })), "{late:?}");
    assert_eq!(world.versions(id).await, [1, 2, 3]);
    world.end().await;
}
