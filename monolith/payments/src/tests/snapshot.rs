//! Snapshots: the whole of a payment, as it was at one version.

use super::stream::published;
use super::*;
use crate::Operation;

/// What a home has of a payment, as text, but for when it came there.
async fn tables(world: &World, id: PaymentId) -> Vec<String> {
    let sql = "
        select 'payment ' || (to_jsonb(p) - '{updated_at,look_at,looks}'::text[])::text
        from payments.payment p where id = $1
        union all
        select 'ledger ' || (to_jsonb(e) - 'created_at')::text from payments.ledger_entry e where payment_id = $1
        union all
        select 'adjustment ' || to_jsonb(a)::text from payments.adjustment a where payment_id = $1
        union all
        select 'answer ' || (to_jsonb(i) - 'created_at')::text from payments.idempotency i where payment_id = $1
        order by 1";
    sqlx::query_scalar(sql).bind(id.uuid()).fetch_all(&world.admin).await.unwrap()
}

/// A snapshot in a transaction of its own: its version, or why there is none.
async fn try_take(world: &World, id: PaymentId) -> Result<i64, String> {
    let mut tx = world.home.pool.begin().await.unwrap();
    if let Some((left, why)) = movable::snapshot(&mut tx, &named(&[id])).await.unwrap().pop() {
        assert_eq!(left, id.to_string());
        tx.rollback().await.unwrap();
        return Err(why);
    }
    let version = store::lock(&mut tx, id).await.unwrap().unwrap().version;
    tx.commit().await.unwrap();
    Ok(version)
}

/// The same, as soon as no other transaction has the payment's row.
pub(super) async fn take(world: &World, id: PaymentId) -> i64 {
    let taken = async {
        loop {
            match try_take(world, id).await {
                Ok(version) => return version,
                Err(why) => assert_eq!(why, "another transaction has its row"),
            }
        }
    };
    tokio::time::timeout(SOON, taken).await.unwrap()
}

/// A home without the payment, which gets its stream from `from` on.
pub(super) async fn restored(owner: &World, id: PaymentId, from: i64, name: &str) -> World {
    let world = World::new(name).await;
    world.owns.0.store(false, Ordering::SeqCst);
    for (version, event) in published(owner, id).await.into_iter().filter(|(version, _)| *version >= from) {
        world.apply(id, version, event).await.unwrap();
    }
    world
}

#[tokio::test]
async fn a_snapshot_taken_while_a_writer_works_is_whole_and_restores_both_tables_and_answers() {
    const REFUNDS: usize = 30;
    let owner = World::new("taken").await;
    let id = owner.captured().await;
    let writer = tokio::spawn({
        let desk = owner.desk();
        async move {
            for number in 0..REFUNDS {
                let refund = refund(id, Some(1), &format!("r{number}"));
                // A snapshot in progress has the payment's row for a moment.
                while let Err(error) = desk.refund(&refund, Epoch(0)).await {
                    assert!(error.is_retryable(), "{error:?}");
                }
            }
        }
    });
    let mut versions = Vec::new();
    while !writer.is_finished() {
        versions.push(take(&owner, id).await);
        // The writer has its turn too.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::timeout(SOON, writer).await.unwrap().unwrap();
    assert!(versions.len() > 2, "{versions:?}");

    let mut refunds = 0;
    for (version, event) in published(&owner, id).await {
        if let PaymentStream::Snapshot(snapshot) = event {
            let state = snapshot.state.unwrap();
            let refunded: i64 = snapshot.ledger.iter().map(clearing).sum();
            // Captured less refunded, in the state, in the books and in the answers, all of the same moment.
            assert_eq!(
                (state.captured_minor - state.refunded_minor, refunds),
                (refunded, state.refunded_minor)
            );
            assert_eq!(snapshot.idempotency.len(), usize::try_from(refunds).unwrap(), "version {version}");
        } else {
            refunds += i64::from(matches!(event, PaymentStream::Refunded(_)));
        }
    }
    let middle = versions[versions.len() / 2];
    let other = restored(&owner, id, middle, "restored").await;
    assert_eq!(tables(&other, id).await, tables(&owner, id).await);

    other.owns.0.store(true, Ordering::SeqCst);
    for number in 0..REFUNDS {
        let refund = refund(id, Some(1), &format!("r{number}"));
        let here = owner.desk().refund(&refund, Epoch(0)).await.unwrap();
        assert_eq!(other.desk().refund(&refund, Epoch(0)).await.unwrap(), here);
    }
    assert_eq!(other.provider.journal(), []);
    owner.end().await;
    other.end().await;
}

/// What a transaction moves to or from the provider.
fn clearing(transaction: &wire::LedgerTransaction) -> i64 {
    let lines = transaction.postings.iter().filter(|line| line.account == "clearing");
    lines.map(|line| line.amount.as_ref().unwrap().minor).sum()
}

#[tokio::test]
async fn refusals_travel_and_what_is_too_old_does_not() {
    let owner = World::new("travels").await;
    let id = owner.refused_capture("c1").await;
    owner.desk().void(&void(id, "v1"), Epoch(0)).await.unwrap();
    let other = restored(&owner, id, take(&owner, id).await, "arrives").await;
    assert_eq!(tables(&other, id).await, tables(&owner, id).await);
    other.owns.0.store(true, Ordering::SeqCst);
    let refused = other.desk().capture(&capture(id, None, "c1"), Epoch(0)).await;
    assert!(matches!(refused, Err(Error::Refused(Refusal::Provider { code })) if code == "already_canceled"));
    // The answer is of its own version, not of the snapshot's.
    assert_eq!(other.desk().void(&void(id, "v1"), Epoch(0)).await.unwrap().version, 3);

    let sql = "update payments.idempotency set created_at = now() - interval '7 days' where key = 'c1'";
    sqlx::query(sql).execute(&owner.admin).await.unwrap();
    let later = restored(&owner, id, take(&owner, id).await, "later").await;
    let kept: Vec<String> =
        sqlx::query_scalar("select key from payments.idempotency").fetch_all(&later.admin).await.unwrap();
    assert_eq!(kept, ["v1"]);
    owner.end().await;
    other.end().await;
    later.end().await;
}

#[tokio::test]
async fn a_key_used_again_after_its_time_is_used_again_at_the_replica_too() {
    let owner = World::new("reuse").await;
    let id = owner.captured().await;
    let first = refund(id, Some(100), "k");
    owner.desk().refund(&first, Epoch(0)).await.unwrap();
    let other = restored(&owner, id, take(&owner, id).await, "follows").await;
    let sql = "update payments.idempotency set created_at = now() - interval '8 days'";
    sqlx::query(sql).execute(&owner.admin).await.unwrap();
    sqlx::query(sql).execute(&other.admin).await.unwrap();

    let second = owner.desk().refund(&first, Epoch(0)).await.unwrap();
    let (version, event) = published(&owner, id).await.pop().unwrap();
    other.apply(id, version, event).await.unwrap();
    assert_eq!(tables(&other, id).await, tables(&owner, id).await);
    other.owns.0.store(true, Ordering::SeqCst);
    assert_eq!(other.desk().refund(&first, Epoch(0)).await.unwrap(), second);
    let refunds = owner.provider.journal().into_iter().filter(|it| it.operation == Operation::Refund);
    assert_eq!((refunds.count(), other.provider.journal().len()), (2, 0));
    owner.end().await;
    other.end().await;
}

#[tokio::test]
async fn a_home_that_is_behind_the_stream_publishes_no_snapshot() {
    let world = World::new("behind").await;
    let id = world.captured().await;
    let mut tx = world.home.pool.begin().await.unwrap();
    outbox::publish(&mut tx, &requested(id, "pm_card_visa", false)).await.unwrap();
    tx.commit().await.unwrap();
    let why = "it is at version 2 here, and its stream at 3";
    assert_eq!(try_take(&world, id).await, Err(why.to_owned()));
    assert_eq!(world.versions(id).await, [1, 2, 3]);
    world.end().await;
}
