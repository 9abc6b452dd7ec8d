//! Following the other home.

use super::*;
use crate::{Adjustment, Desk as _, events};

/// The events that a home published of a payment after its first, read back.
pub(super) async fn published(world: &World, id: PaymentId) -> Vec<(i64, PaymentStream)> {
    let sql =
        "select version, kind, payload from outbox.event where key = $1 and version > 1 order by version";
    let rows: Vec<(i64, String, Vec<u8>)> =
        sqlx::query_as(sql).bind(id.to_string()).fetch_all(&world.admin).await.unwrap();
    rows.into_iter()
        .map(|(version, kind, payload)| (version, PaymentStream::decode(&kind, &payload).unwrap().unwrap()))
        .collect()
}

/// A second home without authority that knows the payment's first event.
async fn follower(id: PaymentId, name: &str) -> World {
    let follower = World::new(name).await;
    follower.owns.0.store(false, Ordering::SeqCst);
    let first = PaymentStream::Requested(requested(id, "pm_card_visa", false));
    follower.apply(id, 1, first).await.unwrap();
    follower
}

#[tokio::test]
async fn a_replica_equals_its_owner_at_each_version_and_gives_the_same_answers_once_it_owns() {
    let owner = World::new("owner").await;
    let id = owner.captured().await;
    let answer = owner.desk().refund(&refund(id, Some(300), "r1"), Epoch(0)).await.unwrap();

    let replica = follower(id, "replica").await;
    for (version, event) in published(&owner, id).await {
        replica.apply(id, version, event.clone()).await.unwrap();
        // A repeat changes nothing.
        replica.apply(id, version, event).await.unwrap();
    }
    let order = replica.payment(id).await.order;
    assert_eq!(replica.payment(id).await, Payment { order, ..owner.payment(id).await });
    assert_eq!(replica.balances(id).await, owner.balances(id).await);

    replica.owns.0.store(true, Ordering::SeqCst);
    let again = replica.desk().refund(&refund(id, Some(300), "r1"), Epoch(0)).await.unwrap();
    assert_eq!(again, answer);
    let reused = replica.desk().refund(&refund(id, Some(301), "r1"), Epoch(0)).await;
    assert!(matches!(reused, Err(Error::KeyReused)));
    assert_eq!(replica.provider.journal(), []);
    owner.end().await;
    replica.end().await;
}

#[tokio::test]
async fn a_replica_books_what_its_owner_adjusted() {
    let owner = World::new("adjusts").await;
    let id = owner.captured().await;
    let more = Adjustment {
        id: Uuid::now_v7(),
        delta_minor: 70,
        object: "ch_7".into(),
        payment_intent: None,
        reason: "found".into(),
    };
    owner.adjust(id, &more, "anna").await.unwrap();
    let replica = follower(id, "adjusted").await;
    for (version, event) in published(&owner, id).await {
        replica.apply(id, version, event).await.unwrap();
    }
    assert_eq!(replica.payment(id).await.version, 3);
    assert_eq!(replica.balances(id).await, owner.balances(id).await);
    assert_eq!(replica.balances(id).await.last(), Some(&("receivable".into(), -70)));
    owner.end().await;
    replica.end().await;
}

#[tokio::test]
async fn a_foreign_write_to_a_payment_of_ours_is_refused() {
    let owner = World::new("writer").await;
    let id = owner.captured().await;
    let other = follower(id, "refuses").await;
    other.owns.0.store(true, Ordering::SeqCst);
    let (version, event) = published(&owner, id).await.remove(0);
    let error = other.apply(id, version, event).await.unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(Error::ForeignWrite)), "{error}");
    assert_eq!(other.payment(id).await.status, Status::Requested);
    owner.end().await;
    other.end().await;
}

#[tokio::test]
async fn a_snapshot_starts_a_payment_again_with_its_books_and_answers() {
    let owner = World::new("whole").await;
    let id = owner.captured().await;
    let answer = owner.desk().refund(&refund(id, Some(300), "r1"), Epoch(0)).await.unwrap();
    let mut snapshot = wire::PaymentSnapshot { state: Some(events::state(&answer)), ..Default::default() };
    for (_, event) in published(&owner, id).await {
        match event {
            PaymentStream::Captured(event) => snapshot.ledger.extend(event.ledger),
            PaymentStream::Refunded(event) => {
                snapshot.ledger.extend(event.ledger);
                let command = event.command.unwrap();
                snapshot.idempotency.push(wire::IdempotencyRecord {
                    operation: command.operation,
                    key: command.idempotency_key,
                    fingerprint: command.fingerprint,
                    command_id: command.command_id,
                    created_at_ms: events::to_millis(time::OffsetDateTime::now_utc()),
                    answer: event.state,
                    answer_version: 3,
                    refusal: String::new(),
                });
            }
            other => panic!("{other:?}"),
        }
    }
    let replica = World::new("restored").await;
    replica.owns.0.store(false, Ordering::SeqCst);
    replica.apply(id, 3, PaymentStream::Snapshot(snapshot)).await.unwrap();
    assert_eq!(replica.payment(id).await, owner.payment(id).await);
    assert_eq!(replica.balances(id).await, owner.balances(id).await);
    replica.owns.0.store(true, Ordering::SeqCst);
    let again = replica.desk().refund(&refund(id, Some(300), "r1"), Epoch(0)).await.unwrap();
    assert_eq!(again, answer);
    owner.end().await;
    replica.end().await;
}

#[tokio::test]
async fn an_event_that_can_not_be_read_is_an_error_and_changes_nothing() {
    let world = World::new("unreadable").await;
    let id = world.request("pm_card_visa", false).await;
    world.owns.0.store(false, Ordering::SeqCst);
    for event in [
        wire::PaymentCaptured::default(),
        wire::PaymentCaptured { state: Some(wire::PaymentState::default()), ..Default::default() },
    ] {
        assert!(world.apply(id, 2, PaymentStream::Captured(event)).await.is_err());
    }
    assert_eq!(world.payment(id).await.version, 1);
    world.end().await;
}
