//! Many events in one call, and what an open transaction has published.

use outbox::{
    BATCH_MAX, BoxError, Error, Event as _, Outgoing,
    testing::{assert_published, assert_published_all, published},
};
use sqlx::Connection as _;

use crate::world::{Home, NOTES, Noted, Snapped, World, noted, until};

fn snapped(key: &str, text: &str) -> Snapped {
    Snapped { key: key.into(), text: text.into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_events_of_several_types_go_in_one_call() -> Result<(), BoxError> {
    let mut world = World::new("batch").await?;
    let home = Home::new(world.stack, "batch", "test.notes").await?;
    home.publish(&noted("b", "before")).await?;
    let mut tx = home.module.begin().await?;
    assert!(outbox::publish_all(&mut tx, &[]).await?.is_empty());
    let (late, first, whole, second) =
        (noted("b", "late"), noted("a", "first"), snapped("a", "whole"), noted("a", "second"));
    // Versions come back in this order, though heads are locked in the order of keys.
    let versions = outbox::publish_all(&mut tx, &[&late, &first, &whole, &second]).await?;
    assert_eq!(versions, [2, 1, 2, 3]);
    let order: Vec<_> = published(&mut tx).await?.into_iter().map(|e| (e.key, e.version, e.kind)).collect();
    let order: Vec<_> =
        order.iter().map(|(key, version, kind)| (key.as_str(), *version, kind.as_str())).collect();
    assert_eq!(
        order,
        [("a", 1, Noted::KIND), ("a", 2, Snapped::KIND), ("a", 3, Noted::KIND), ("b", 2, Noted::KIND)]
    );
    tx.commit().await?;
    world.relay(&home)?;
    until(0, || home.pending()).await?;
    world.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_over_the_same_keys_never_deadlock() -> Result<(), BoxError> {
    let world = World::new("deadlock").await?;
    let home = Home::new(world.stack, "deadlock", "test.notes").await?;
    let events: Vec<Noted> = (0..40).map(|n| noted(&format!("key-{n}"), n)).collect();
    let there: Vec<&dyn Outgoing> = events.iter().map(|event| event as &dyn Outgoing).collect();
    let back: Vec<&dyn Outgoing> = there.iter().rev().copied().collect();
    let writer = async |batch: &[&dyn Outgoing]| {
        for _ in 0..25 {
            let mut tx = home.module.begin().await?;
            outbox::publish_all(&mut tx, batch).await?;
            tx.commit().await?;
        }
        Ok::<_, BoxError>(())
    };
    tokio::try_join!(writer(&there), writer(&back), writer(&there), writer(&back))?;
    let heads: Vec<i64> =
        sqlx::query_scalar("select distinct version from outbox.head").fetch_all(&home.admin).await?;
    assert_eq!(heads, [100], "every key has all versions");
    world.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_event_in_a_batch_is_named_and_nothing_is_written() -> Result<(), BoxError> {
    let world = World::new("badbatch").await?;
    let home = Home::new(world.stack, "badbatch", "test.notes").await?;
    let good = noted("a", 1);
    for (bad, rule) in [
        (noted("", "x"), "the key has 0 bytes; 1 to 255 are allowed"),
        (noted("z", "x".repeat(900_000)), "bytes; 900000 are allowed"),
        (noted("n\0l", "x"), "invalid byte sequence"),
    ] {
        let mut tx = home.module.begin().await?;
        let refused = outbox::publish_all(&mut tx, &[&good, &bad, &good]).await;
        let Err(Error::Invalid { key, reason, .. }) = refused else {
            return Err(format!("{refused:?}").into());
        };
        assert_eq!(key, bad.key);
        assert!(reason.contains(rule), "{reason}");
    }
    let many = vec![&good as &dyn Outgoing; BATCH_MAX + 1];
    let mut tx = home.module.begin().await?;
    let refused = outbox::publish_all(&mut tx, &many).await;
    assert!(matches!(refused, Err(Error::BatchTooLarge { events: 1_001, .. })), "{refused:?}");
    let fat = noted("a", "x".repeat(800_000));
    let refused = outbox::publish_all(&mut tx, &[&fat as &dyn Outgoing; 100]).await;
    assert!(matches!(refused, Err(Error::BatchTooLarge { events: 100, .. })), "{refused:?}");
    // A bound that was met before the database was asked leaves the transaction usable.
    assert_eq!(outbox::publish_all(&mut tx, &many[..BATCH_MAX]).await?.last(), Some(&1_000));
    tx.rollback().await?;
    assert_eq!(home.pending().await?, 0);
    world.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_sees_what_its_open_transaction_published_and_nothing_else() -> Result<(), BoxError> {
    let world = World::new("published").await?;
    let home = Home::new(world.stack, "published", "test.notes").await?;
    home.publish(&noted("before", 1)).await?;
    let mut tx = home.module.begin().await?;
    assert_published_all(&mut tx, &[]).await?;
    outbox::publish(&mut tx, &noted("a", 1)).await?;
    // Another transaction commits meanwhile, and one more stays open.
    home.publish(&noted("beside", 1)).await?;
    let mut open = home.module.begin().await?;
    outbox::publish(&mut open, &noted("open", 1)).await?;
    // A savepoint that is taken back leaves nothing, one that is kept does.
    let mut savepoint = tx.begin().await?;
    outbox::publish(&mut savepoint, &noted("a", "undone")).await?;
    savepoint.rollback().await?;
    let mut savepoint = tx.begin().await?;
    outbox::publish(&mut savepoint, &snapped("a", "kept")).await?;
    savepoint.commit().await?;
    assert_published(&mut tx, &[noted("a", 1)]).await?;
    assert_published(&mut tx, &[snapped("a", "kept")]).await?;
    assert_published_all(&mut tx, &[&noted("a", 1), &snapped("a", "kept")]).await?;
    let all = published(&mut tx).await?;
    let [first, second] = &all[..] else { return Err(format!("{all:?}").into()) };
    assert_eq!((first.version, second.version), (1, 2));
    assert_eq!((first.origin.as_str(), first.headers.get("tenant")), ("test.notes", Some("acme")));
    assert_eq!(first.topic, NOTES.name());
    assert!(first.decode::<Snapped>().is_none());
    tx.commit().await?;
    let mut next = home.module.begin().await?;
    assert!(published(&mut next).await?.is_empty(), "what is committed belongs to nobody's transaction");
    drop((next, open));
    world.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assertion_about_other_events_fails() -> Result<(), BoxError> {
    let world = World::new("assertion").await?;
    let home = Home::new(world.stack, "assertion", "test.notes").await?;
    for wrong in [vec![], vec![noted("a", 2)], vec![noted("b", 1)], vec![noted("a", 1), noted("a", 1)]] {
        let module = home.module.clone();
        let asserting = tokio::spawn(async move {
            let mut tx = module.begin().await?;
            outbox::publish(&mut tx, &noted("a", 1)).await?;
            let events: Vec<&dyn Outgoing> = wrong.iter().map(|event| event as &dyn Outgoing).collect();
            assert_published_all(&mut tx, &events).await
        });
        let panicked = asserting.await.err().ok_or("the assertion passed")?.try_into_panic()?;
        let message = panicked.downcast_ref::<String>().ok_or("a message")?;
        assert!(message.contains("published"), "{message}");
    }
    world.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_kafka_refuses_are_not_granted() -> Result<(), BoxError> {
    let home = Home::new(stack::shared().await?, "dots", "test.notes").await?;
    for topic in [".", "..", "", "Notes", "a b"] {
        let granted = sqlx::query("select outbox.grant_module($1::name, 'test.notes', array[$2])")
            .bind(format!("{}_module", home.name()))
            .bind(topic)
            .execute(&home.admin)
            .await;
        let code = granted.as_ref().err().and_then(|error| error.as_database_error()?.code());
        assert_eq!(code.as_deref(), Some("23514"), "{topic}: {granted:?}");
    }
    home.drop_now().await
}
