//! Idempotency keys: how long they answer, and that nobody waits for them.

use super::*;
use crate::provider::{Call, Fault};
use crate::store::forget_answers;

/// Makes a payment's records older.
async fn age(world: &World, id: PaymentId, interval: &str) {
    let sql =
        "update payments.idempotency set created_at = created_at - $2::text::interval where payment_id = $1";
    sqlx::query(sql).bind(id.uuid()).bind(interval).execute(&world.admin).await.unwrap();
}

async fn keys(world: &World) -> Vec<String> {
    sqlx::query_scalar("select key from payments.idempotency order by key")
        .fetch_all(&world.admin)
        .await
        .unwrap()
}

/// Refusals that a payment has under keys of its own, each with the longest of names, given so long ago.
async fn refused_before(world: &World, id: PaymentId, count: i64, ago: &str) {
    let sql = "
        insert into payments.idempotency (tenant, payment_id, operation, key, fingerprint, command_id, refusal, created_at)
        select p.tenant, p.id, 'refund', rpad(n || $3, 255, 'x'), 'f', gen_random_uuid(), 'no',
            clock_timestamp() - $3::text::interval
        from payments.payment p, generate_series(1, $2) n where p.id = $1";
    sqlx::query(sql).bind(id.uuid()).bind(count).bind(ago).execute(&world.admin).await.unwrap();
}

#[tokio::test]
async fn a_payment_takes_only_as_many_keys_as_can_travel_with_it() {
    let world = World::new("full").await;
    let id = world.captured().await;
    let first = refund(id, Some(1), "first");
    let answer = world.desk().refund(&first, Epoch(0)).await.unwrap();
    refused_before(&world, id, store::KEYS_MAX - 1, "6 days").await;
    let more = refund(id, Some(1), "more");
    let full = world.desk().refund(&more, Epoch(0)).await.unwrap_err();
    assert!(matches!(&full, Error::Invalid(why) if why[0].field == "idempotency_key"), "{full:?}");
    assert_eq!(world.desk().refund(&first, Epoch(0)).await.unwrap(), answer, "a repeat is no new one");
    age(&world, id, "2 days").await;
    world.desk().refund(&more, Epoch(0)).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn only_answers_that_are_kept_make_a_payment_too_large_to_move() {
    let world = World::new("too_large").await;
    let id = world.captured().await;
    let why = async || {
        let mut tx = world.home.pool.begin().await.unwrap();
        let pinned = movable::pinned(&mut tx, &named(&[id])).await.unwrap();
        tx.rollback().await.unwrap();
        pinned.into_iter().next().map(|(_, why)| why)
    };
    refused_before(&world, id, 4_000, "8 days").await;
    assert_eq!(why().await, None, "an engine is about to delete them");
    refused_before(&world, id, 4_000, "6 days").await;
    assert!(why().await.is_some_and(|why| why.contains("too large for one event")));
    world.end().await;
}

#[tokio::test]
async fn an_answer_is_repeated_for_seven_days_as_it_was_and_then_its_key_is_free() {
    let world = World::new("week").await;
    let (desk, id) = (world.desk(), world.captured().await);
    let first = desk.refund(&refund(id, Some(100), "k"), Epoch(0)).await.unwrap();
    desk.refund(&refund(id, Some(50), "other"), Epoch(0)).await.unwrap();
    age(&world, id, "6 days 23:59").await;
    assert_eq!(desk.refund(&refund(id, Some(100), "k"), Epoch(0)).await.unwrap(), first);

    age(&world, id, "2 minutes").await;
    let second = desk.refund(&refund(id, Some(100), "k"), Epoch(0)).await.unwrap();
    assert_eq!((second.refunded_minor, second.version), (250, 5));
    assert_eq!(desk.refund(&refund(id, Some(100), "k"), Epoch(0)).await.unwrap(), second);
    let refunds = world.provider.journal().into_iter().filter(|it| it.operation == crate::Operation::Refund);
    assert_eq!(refunds.count(), 3);
    world.end().await;
}

#[tokio::test]
async fn a_refusal_is_repeated_too_while_the_payment_goes_on() {
    let world = World::new("again").await;
    let id = world.refused_capture("c1").await;
    let asked = world.provider.journal();
    let again = world.desk().capture(&capture(id, None, "c1"), Epoch(0)).await;
    assert!(
        matches!(&again, Err(Error::Refused(Refusal::Provider { code })) if code == "already_canceled"),
        "{again:?}"
    );
    let other = world.desk().capture(&capture(id, Some(1), "c1"), Epoch(0)).await;
    assert!(matches!(other, Err(Error::KeyReused)));
    assert_eq!(world.provider.journal(), asked);
    world.end().await;
}

#[tokio::test]
async fn old_answers_are_forgotten_in_batches_and_what_is_in_flight_is_not() {
    let world = World::new("forget").await;
    let (desk, old) = (world.desk().answer_within(Duration::from_millis(100)), world.captured().await);
    for name in ["a", "b", "c"] {
        desk.refund(&refund(old, Some(1), name), Epoch(0)).await.unwrap();
    }
    world.provider.fail_next(Call::Refund, Fault::Lost);
    let pending = desk.refund(&refund(old, Some(1), "open"), Epoch(0)).await;
    assert!(matches!(pending, Err(Error::OutcomePending(_))), "{pending:?}");
    age(&world, old, "8 days").await;
    let young = world.captured().await;
    desk.refund(&refund(young, Some(1), "young"), Epoch(0)).await.unwrap();

    // One that a transaction uses again is left alone, and nobody waits.
    let mut using = world.admin.begin().await.unwrap();
    sqlx::query("select from payments.idempotency where key = 'a' for update")
        .execute(&mut *using)
        .await
        .unwrap();
    let forget = async |most| forget_answers(&world.home.pool, most).await.unwrap();
    assert_eq!(tokio::time::timeout(SOON, forget(10)).await.unwrap(), 2);
    using.rollback().await.unwrap();
    assert_eq!((forget(10).await, forget(10).await), (1, 0));
    assert_eq!(keys(&world).await, ["open", "young"]);
    let in_flight = desk.refund(&refund(old, Some(1), "open"), Epoch(0)).await;
    assert!(matches!(in_flight, Err(Error::InFlight)), "{in_flight:?}");

    age(&world, young, "8 days").await;
    let shutdown = tokio_util::sync::CancellationToken::new();
    let running = tokio::spawn(world.engine().run(shutdown.clone()));
    let forgotten = async {
        while keys(&world).await != ["open"] {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, forgotten).await.unwrap();
    shutdown.cancel();
    tokio::time::timeout(SOON, running).await.unwrap().unwrap();
    world.end().await;
}

#[tokio::test]
async fn a_repetition_does_not_wait_for_the_provider() {
    let world = World::new("inflight").await;
    let (desk, id) = (world.desk(), world.captured().await);
    world.provider.fail_next(Call::Refund, Fault::DoneHangs);
    let hanging = tokio::spawn({
        let desk = desk.clone();
        async move { desk.refund(&refund(id, Some(100), "k"), Epoch(0)).await }
    });
    tokio::time::timeout(SOON, world.provider.hangs()).await.unwrap();
    let request = refund(id, Some(100), "k");
    let again = tokio::time::timeout(SOON, desk.refund(&request, Epoch(0))).await.unwrap();
    assert!(matches!(again, Err(Error::InFlight)), "{again:?}");
    let request = refund(id, Some(100), "other");
    let other = tokio::time::timeout(SOON, desk.refund(&request, Epoch(0))).await.unwrap();
    assert!(matches!(other, Err(Error::Busy(_))), "{other:?}");
    // No transaction is open while the provider is asked, so there is none to wait for.
    assert_eq!(open_transactions(&world).await, 0);
    hanging.abort();
    world.end().await;
}

/// Transactions of the home's role that are open and have nothing to do.
async fn open_transactions(world: &World) -> i64 {
    let sql =
        "select count(*) from pg_stat_activity where datname = current_database() and state like 'idle in%'";
    sqlx::query_scalar(sql).fetch_one(&world.admin).await.unwrap()
}

#[tokio::test]
async fn a_request_waits_for_another_transaction_a_bounded_time_and_without_a_connection() {
    let world = World::new("locked").await;
    let (desk, id) = (world.desk(), world.captured().await);
    // Another process is between claiming the key and its commit, and hangs.
    let mut hanging = world.admin.begin().await.unwrap();
    sqlx::query("select from payments.payment where id = $1 for update")
        .bind(id.uuid())
        .execute(&mut *hanging)
        .await
        .unwrap();
    let claim =
        "insert into payments.idempotency (tenant, payment_id, operation, key, fingerprint, command_id)
                 values ('acme', $1, 'refund', 'k', 'f', gen_random_uuid())";
    sqlx::query(claim).bind(id.uuid()).execute(&mut *hanging).await.unwrap();

    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let desk = desk.clone();
        requests.spawn(async move { desk.refund(&refund(id, Some(100), "k"), Epoch(0)).await });
    }
    // More requests than the pool has connections, and yet another payment is served meanwhile.
    let other = world.captured().await;
    tokio::time::timeout(SOON, desk.refund(&refund(other, Some(1), "k"), Epoch(0))).await.unwrap().unwrap();
    for answer in tokio::time::timeout(SOON, requests.join_all()).await.unwrap() {
        assert!(matches!(answer, Err(Error::Busy(_))), "{answer:?}");
    }
    hanging.rollback().await.unwrap();
    assert_eq!(desk.refund(&refund(id, Some(100), "k"), Epoch(0)).await.unwrap().refunded_minor, 100);
    world.end().await;
}
