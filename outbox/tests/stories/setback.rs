//! A relay beside a database that was set back, that lacks a day, or that other relays see with other eyes.

use outbox::{BoxError, Error, Relay, RelayOptions};
use uuid::Uuid;

use crate::{
    fickle::{Fickle, Manners},
    relay::{Running, brisk},
    world::{Home, noted, until},
};

/// As if an older copy were restored.
const RESTORE: &str = "begin; delete from outbox.pending; delete from outbox.event; delete from outbox.head;
                       alter sequence outbox.position restart; commit";

#[tokio::test(flavor = "multi_thread")]
async fn an_event_at_a_position_that_is_given_again_is_not_lost() -> Result<(), BoxError> {
    let home = Home::new(stack::shared().await?, "givenagain", "test.notes").await?;
    let manners = Manners { lane: Some("a".into()), lane_hangs: true, ..Manners::default() };
    let fickle = Fickle::new(1, manners);
    home.publish(&noted("a", "before")).await?;
    let relay = Running::start(Relay::new(home.relay.clone(), fickle.clone()).with(brisk()));
    until(1, async || Ok(fickle.met_dead_lane())).await?;
    // While the record is on its way.
    sqlx::raw_sql(RESTORE).execute(&home.admin).await?;
    home.publish(&noted("a", "anew")).await?;
    fickle.change(|manners| manners.lane_hangs = false);
    until(0, || home.pending()).await?;
    relay.stop().await?;
    assert_eq!(fickle.versions("a"), [1, 1]);
    assert_ne!(fickle.kept()[0].id, fickle.kept()[1].id, "the event that is there now has arrived");
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_at_a_position_that_is_given_again_is_not_overtaken() -> Result<(), BoxError> {
    for noted_too in [true, false] {
        let home = Home::new(stack::shared().await?, "notovertaken", "test.notes").await?;
        let manners = Manners { lane: Some("a".into()), lane_hangs: true, ..Manners::default() };
        let fickle = Fickle::new(1, manners);
        home.publish(&noted("a", "before")).await?;
        let options = RelayOptions { note_deliveries: noted_too, ..brisk() };
        let relay = Running::start(Relay::new(home.relay.clone(), fickle.clone()).with(options));
        until(1, async || Ok(fickle.met_dead_lane())).await?;
        sqlx::raw_sql(RESTORE).execute(&home.admin).await?;
        for n in 1..=3 {
            home.publish(&noted("a", n)).await?;
        }
        // When this one has arrived, those before it were read, as if they stood behind the record that is on its way.
        home.publish(&noted("z", 1)).await?;
        until(vec![1], async || Ok(fickle.versions("z"))).await?;
        fickle.change(|manners| manners.lane_hangs = false);
        until(0, || home.pending()).await?;
        relay.stop().await?;
        assert_eq!(fickle.versions("a"), [1, 1, 2, 3], "the first is of before");
        home.drop_now().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn relays_with_leases_of_different_length_do_not_evict_each_other() -> Result<(), BoxError> {
    let home = Home::new(stack::shared().await?, "lengths", "test.notes").await?;
    let lease = async |relay: Uuid, name: &str, ttl: &str| -> Result<usize, BoxError> {
        let buckets: Vec<i16> = sqlx::query_scalar("select outbox.lease($1, $2, $3::text::interval)")
            .bind(relay)
            .bind(name)
            .bind(ttl)
            .fetch_all(&home.relay)
            .await?;
        Ok(buckets.len())
    };
    let (first, second, hasty) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
    assert_eq!(lease(first, "one", "1 hour").await?, 64);
    // To one with a short lease the others look as if they had been silent for long.
    assert_eq!(lease(hasty, "one", "0").await?, 0, "the name is taken");
    assert_eq!(lease(second, "two", "1 hour").await?, 0);
    lease(hasty, "three", "0").await?;
    assert_eq!(lease(first, "one", "1 hour").await?, 32);
    assert_eq!(lease(second, "two", "1 hour").await?, 32);
    home.drop_now().await
}

/// Drops all days of a log, and the right of the relay's housekeeping to make them again.
async fn without_days(home: &Home, log: &str) -> Result<(), BoxError> {
    let drop = format!(
        "revoke execute on function outbox.make_partitions(integer) from {}_relay;
         do $$ declare day regclass; begin
             for day in select inhrelid from pg_inherits where inhparent = to_regclass('outbox.{log}') loop
                 execute 'drop table ' || day;
             end loop;
         end $$",
        home.name()
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(drop)).execute(&home.admin).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_go_on_when_there_is_no_place_to_note_them() -> Result<(), BoxError> {
    let home = Home::new(stack::shared().await?, "noplace", "test.notes").await?;
    without_days(&home, "sent").await?;
    let fickle = Fickle::new(2, Manners::default());
    let relay = Relay::new(home.relay.clone(), fickle.clone()).with(brisk());
    let status = relay.status();
    let relay = Running::start(relay);
    for n in 1..=20 {
        home.publish(&noted("a", n)).await?;
    }
    until(0, || home.pending()).await?;
    assert_eq!(fickle.versions("a"), (1..=20).collect::<Vec<_>>());
    assert_eq!(status.borrow().database, None);
    relay.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_without_a_day_says_what_to_run() -> Result<(), BoxError> {
    let home = Home::new(stack::shared().await?, "noday", "test.notes").await?;
    without_days(&home, "event").await?;
    let event = noted("a", 1);
    let mut tx = home.module.begin().await?;
    let refused = outbox::publish(&mut tx, &event).await;
    assert!(matches!(&refused, Err(Error::NoDay)), "{refused:?}");
    tx.rollback().await?;
    let mut tx = home.module.begin().await?;
    let refused = outbox::publish_all(&mut tx, &[&event, &event]).await;
    let Err(error @ Error::NoDay) = refused else { return Err(format!("{refused:?}").into()) };
    tx.rollback().await?;
    assert!(error.to_string().contains("select outbox.make_partitions(14)"), "{error}");
    sqlx::query("select outbox.make_partitions(14)").execute(&home.admin).await?;
    assert_eq!(home.publish(&event).await?, 1);
    home.drop_now().await
}
