//! Records that the broker never takes.

use std::time::Duration;

use outbox::{BoxError, Error, Relay, RelayOptions, quarantine};

use crate::{
    fickle::{Fickle, Manners},
    relay::{Running, brisk},
    shelf::{ME, Shelf, WHY, table},
    world::{Home, NOTES, noted, until},
};

/// What is in quarantine, as `key version`.
async fn quarantined(home: &Home) -> Result<Vec<String>, BoxError> {
    let list = quarantine::list(&home.admin, 0, 100).await?;
    let mut keys: Vec<String> = list
        .iter()
        .map(|q| format!("{} {}", q.key.clone().unwrap_or_default(), q.version.unwrap_or(0)))
        .collect();
    keys.sort();
    Ok(keys)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_never_taken_waits_for_an_operator() -> Result<(), BoxError> {
    let stack = stack::shared().await?;
    let home = Home::new(stack, "quarantine", "test.notes").await?;
    let never = [("a".to_owned(), 2), ("b".to_owned(), 1)].into();
    let fickle = Fickle::new(1, Manners { never, ..Manners::default() });
    for (key, text) in [("a", 1), ("a", 2), ("a", 3), ("b", 1), ("b", 2), ("c", 1)] {
        home.publish(&noted(key, text)).await?;
    }
    let options = RelayOptions { attempts_max: 3, ..brisk() };
    let relay = Running::start(Relay::new(home.relay.clone(), fickle.clone()).with(options));
    until(vec!["a 2".to_owned(), "b 1".into()], || quarantined(&home)).await?;
    // What comes behind waits; other keys go on.
    home.publish(&noted("a", 4)).await?;
    home.publish(&noted("c", 2)).await?;
    until(vec![1, 2], async || Ok(fickle.versions("c"))).await?;
    assert_eq!((fickle.versions("a"), fickle.versions("b")), (vec![1], vec![]));
    let first = quarantine::list(&home.admin, 0, 1).await?.remove(0);
    assert_eq!((first.attempts, first.error.as_deref()), (3, Some("it is bad")));

    // An opening can't be skipped; a kind that moves authority neither; nor what is not in quarantine.
    let refused = |event: (&'static str, i64)| {
        let admin = home.admin.clone();
        async move { quarantine::skip(&admin, (NOTES, event.0, event.1), "ann", "it is broken").await }
    };
    assert!(matches!(refused(("b", 1)).await, Err(Error::Unfit(why)) if why.contains("opens its stream")));
    assert!(matches!(refused(("a", 3)).await, Err(Error::Unfit(why)) if why.contains("not in quarantine")));
    sqlx::query("insert into outbox.never_skipped (kind) values ('test.noted.v1') on conflict do nothing")
        .execute(&home.admin)
        .await?;
    assert!(matches!(refused(("a", 2)).await, Err(Error::Unfit(why)) if why.contains("can't be skipped")));
    sqlx::query("delete from outbox.never_skipped where kind = 'test.noted.v1'").execute(&home.admin).await?;
    assert!(quarantine::skip(&home.admin, (NOTES, "a", 2), "ann", " ").await.is_err(), "a reason is needed");

    quarantine::skip(&home.admin, (NOTES, "a", 2), "ann", "it is broken").await?;
    until(vec![1, 2, 3, 4], async || Ok(fickle.versions("a"))).await?;
    let filler = fickle.kept().into_iter().find(|kept| kept.key == "a" && kept.version == 2).ok_or("gone")?;
    assert_eq!(
        (filler.kind.as_str(), Some(filler.id)),
        (quarantine::SKIPPED, first.id.map(|id| id.to_string()))
    );
    let kept: (String, Vec<u8>) =
        sqlx::query_as("select kind, payload from outbox.skipped").fetch_one(&home.admin).await?;
    assert_eq!(kept.0, "test.noted.v1");
    assert!(String::from_utf8(kept.1)?.contains('2'), "the event itself is kept");

    // Sent again, it has all its attempts again.
    quarantine::resend(&home.admin, (NOTES, "b", 1), "bob", "the limit was raised").await?;
    until(Vec::<String>::new(), || quarantined(&home)).await?;
    until(vec!["b 1".to_owned()], || quarantined(&home)).await?;
    fickle.change(|manners| manners.never.clear());
    quarantine::resend(&home.admin, (NOTES, "b", 1), "bob", "now it really was").await?;
    until(0, || home.pending()).await?;
    assert_eq!(fickle.versions("b"), [1, 2]);
    let audit: Vec<String> = sqlx::query_scalar(
        "select actor || ' ' || action || ' ' || (subject ->> 'key') from outbox.audit order by id",
    )
    .fetch_all(&home.admin)
    .await?;
    assert_eq!(audit, ["ann skip a", "bob resend b", "bob resend b"]);
    relay.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_uses_up_no_attempt() -> Result<(), BoxError> {
    let stack = stack::shared().await?;
    let home = Home::new(stack, "outage", "test.notes").await?;
    let fickle = Fickle::new(2, Manners { outages: 1_000, ..Manners::default() });
    for n in 0..5 {
        home.publish(&noted(&format!("key-{n}"), 1)).await?;
    }
    let relay =
        Relay::new(home.relay.clone(), fickle.clone()).with(RelayOptions { attempts_max: 1, ..brisk() });
    let mut status = relay.status();
    let relay = Running::start(relay);
    status.wait_for(|status| status.buckets == 64).await?;
    // Longer than a lease: it was cut off, gave its buckets up, and took them again.
    let released = async || -> Result<bool, BoxError> {
        let free = "select count(*) = 64 from outbox.lease where relay is null";
        Ok(sqlx::query_scalar(free).fetch_one(&home.admin).await?)
    };
    until(true, released).await?;
    status.wait_for(|status| status.broker.is_some() && !status.is_ready()).await?;
    let untouched = "select count(*) from outbox.pending where attempts = 0 and retry_at is null";
    assert_eq!(sqlx::query_scalar::<_, i64>(untouched).fetch_one(&home.admin).await?, 5);
    fickle.change(|manners| manners.outages = 0);
    until(0, || home.pending()).await?;
    assert_eq!(fickle.kept().len(), 5);
    tokio::time::timeout(Duration::from_secs(20), relay.stop()).await??;
    home.drop_now().await
}

/// How many events were refused at least once, and never were.
async fn refused_and_not(home: &Home) -> Result<(i64, i64), BoxError> {
    let counts = "select count(*) filter (where attempts > 0),
                         count(*) filter (where attempts = 0 and retry_at is null) from outbox.pending";
    Ok(sqlx::query_as(counts).fetch_one(&home.admin).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_takes_nothing_uses_up_no_attempt() -> Result<(), BoxError> {
    let stack = stack::shared().await?;
    let home = Home::new(stack, "denied", "test.notes").await?;
    let fickle = Fickle::new(3, Manners { denied: true, ..Manners::default() });
    for n in 0..5 {
        home.publish(&noted(&format!("key-{n}"), 1)).await?;
    }
    let options = RelayOptions { attempts_max: 1, ..brisk() };
    let relay = Relay::new(home.relay.clone(), fickle.clone()).with(options);
    let mut status = relay.status();
    let relay = Running::start(relay);
    let told = status.wait_for(|status| !status.missing.is_empty());
    let found = tokio::time::timeout(Duration::from_secs(20), told).await??.clone();
    assert!(!found.is_ready() && found.broker.is_none(), "{found:?}");
    assert!(found.faults().iter().any(|fault| fault.starts_with("topic notes.v1 can't be written to")));
    assert_eq!(refused_and_not(&home).await?, (0, 5));
    fickle.change(|manners| manners.denied = false);
    until(0, || home.pending()).await?;
    status.wait_for(outbox::RelayStatus::is_ready).await?;
    assert_eq!(fickle.kept().len(), 5);
    relay.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_lane_holds_up_no_refused_record_of_another() -> Result<(), BoxError> {
    for (name, hangs) in [("lanehangs", true), ("lanedown", false)] {
        let home = Home::new(stack::shared().await?, name, "test.notes").await?;
        let never = [("stuck".to_owned(), 1)].into();
        let fickle = Fickle::new(4, Manners { lane: Some("stuck".into()), never, ..Manners::default() });
        home.publish(&noted("stuck", 1)).await?;
        let options = RelayOptions { stall_after: Duration::from_millis(200), ..brisk() };
        let relay = Running::start(Relay::new(home.relay.clone(), fickle.clone()).with(options));
        until((1, 0), || refused_and_not(&home)).await?;
        // The one that is tried again meets a dead lane; then another is refused, and mended.
        fickle.change(|manners| {
            manners.never = [("free".to_owned(), 1)].into();
            (manners.lane_hangs, manners.lane_down) = (hangs, !hangs);
        });
        until(true, async || Ok(fickle.met_dead_lane() > 0)).await?;
        home.publish(&noted("free", 1)).await?;
        until((2, 0), || refused_and_not(&home)).await?;
        fickle.change(|manners| manners.never.clear());
        until(vec![1], async || Ok(fickle.versions("free"))).await?;
        assert_eq!(fickle.versions("stuck"), [0; 0]);
        fickle.change(|manners| (manners.lane_hangs, manners.lane_down) = (false, false));
        until(0, || home.pending()).await?;
        assert_eq!(fickle.kept().len(), 2, "each once");
        relay.stop().await?;
        home.drop_now().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_answers_and_takes_nothing_shows() -> Result<(), BoxError> {
    let home = Home::new(stack::shared().await?, "takesnothing", "test.notes").await?;
    // All of it, or one partition beside others that take theirs.
    for lane in ["", "stuck"] {
        let manners = Manners { lane: Some(lane.into()), lane_down: true, ..Manners::default() };
        let fickle = Fickle::new(5, manners);
        let options = RelayOptions { status_every: Duration::from_millis(50), ..brisk() };
        let relay = Relay::new(home.relay.clone(), fickle.clone()).with(options);
        let mut status = relay.status();
        let relay = Running::start(relay);
        status.wait_for(outbox::RelayStatus::is_ready).await?;
        home.publish(&noted("stuck", 1)).await?;
        let told = status.wait_for(|status| !status.missing.is_empty());
        let found = tokio::time::timeout(Duration::from_secs(20), told).await??.clone();
        assert!(!found.is_ready() && found.broker.is_none(), "{found:?}");
        assert!(found.missing["notes.v1"].contains("as the story wants it"), "{found:?}");
        if !lane.is_empty() {
            home.publish(&noted("free", 1)).await?;
            until(1, || home.pending()).await?;
        }
        fickle.change(|manners| manners.lane_down = false);
        let mended = status.wait_for(outbox::RelayStatus::is_ready);
        tokio::time::timeout(Duration::from_secs(20), mended).await??;
        until(0, || home.pending()).await?;
        relay.stop().await?;
    }
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_has_lost_is_skipped() -> Result<(), BoxError> {
    let mut shelf = Shelf::new("lostevents").await?;
    // One in the middle of its key is gone, and one with its whole day.
    shelf.publish("a", 3).await?;
    sqlx::query("delete from outbox.event where version = 2").execute(&shelf.home.admin).await?;
    shelf.publish("b", 1).await?;
    // Of this key two in a row, and nothing behind them; of the next three, with one behind them.
    shelf.publish("c", 2).await?;
    shelf.publish("d", 3).await?;
    shelf.age("c", 10).await?;
    shelf.age("d", 10).await?;
    shelf.publish("d", 1).await?;
    let day = table("event", shelf.age("b", 10).await?);
    let by_force = sqlx::AssertSqlSafe(format!("drop table outbox.{day}"));
    sqlx::query(by_force).execute(&shelf.home.admin).await?;
    let options = RelayOptions { attempts_max: 2, ..brisk() };
    let relay = Relay::new(shelf.home.relay.clone(), shelf.memory.sink()).with(options);
    shelf.spawn(|shutdown| relay.run(shutdown));
    until(4, || shelf.count("outbox.quarantine where topic is null")).await?;
    let told: Vec<String> = sqlx::query_scalar(
        "select e.key || ' ' || e.version from outbox.quarantine q
         left join lateral outbox.lost_event(q.position) e on true order by 1",
    )
    .fetch_all(&shelf.operator)
    .await?;
    assert_eq!(told, ["a 2", "b 1", "c 1", "d 1"]);
    let lost = [("a", 2), ("b", 1), ("c", 1), ("c", 2), ("d", 1), ("d", 2), ("d", 3)];
    for event in lost {
        // Each comes after the one before it.
        until(true, async || {
            let found = "select exists (select from outbox.quarantine q, outbox.lost_event(q.position) e
                                        where e.key = $1 and e.version = $2)";
            Ok(sqlx::query_scalar(found).bind(event.0).bind(event.1).fetch_one(&shelf.operator).await?)
        })
        .await?;
        let event = (NOTES, event.0, event.1);
        let again = quarantine::resend(&shelf.operator, event, ME, WHY).await;
        assert!(matches!(&again, Err(Error::Unfit(why)) if why.contains("can only be skipped")), "{again:?}");
        quarantine::skip(&shelf.operator, event, ME, WHY).await?;
    }
    for event in [("a", 1), ("a", 3), ("e", 1)] {
        let skipped = quarantine::skip(&shelf.operator, (NOTES, event.0, event.1), ME, WHY).await;
        assert!(
            matches!(&skipped, Err(Error::Unfit(why)) if why.contains("not in quarantine")),
            "{skipped:?}"
        );
    }
    until(0, || shelf.home.pending()).await?;
    let mut records = shelf.records();
    records.sort();
    assert_eq!(records, ["a:1", "a:2", "a:3", "b:1", "c:1", "c:2", "d:1", "d:2", "d:3", "d:4"]);
    let fillers = shelf.memory.records(NOTES.name()).into_iter().flat_map(|record| record.headers);
    assert_eq!(fillers.filter(|(_, value)| value == quarantine::SKIPPED).count(), lost.len());
    assert!(shelf.has(&day).await?, "a filler is in the log like any event");
    shelf.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_only_detached_is_sent_again() -> Result<(), BoxError> {
    let mut shelf = Shelf::new("onlydetached").await?;
    shelf.publish("a", 2).await?;
    shelf.publish("b", 2).await?;
    let day = table("event", shelf.age("a", 10).await?);
    shelf.age("b", 10).await?;
    let detach = sqlx::AssertSqlSafe(format!("alter table outbox.event detach partition outbox.{day}"));
    sqlx::query(detach).execute(&shelf.home.admin).await?;
    let options = RelayOptions { attempts_max: 1, ..brisk() };
    let relay = Relay::new(shelf.home.relay.clone(), shelf.memory.sink()).with(options);
    shelf.spawn(|shutdown| relay.run(shutdown));
    until(2, || shelf.count("outbox.quarantine where topic is null")).await?;
    let opening = quarantine::skip(&shelf.operator, (NOTES, "b", 1), ME, WHY).await;
    assert!(matches!(&opening, Err(Error::Unfit(why)) if why.contains("opens its stream")), "{opening:?}");
    quarantine::resend(&shelf.operator, (NOTES, "a", 1), ME, WHY).await?;
    quarantine::resend(&shelf.operator, (NOTES, "b", 1), ME, WHY).await?;
    until(0, || shelf.home.pending()).await?;
    let mut records = shelf.records();
    records.sort();
    assert_eq!(records, ["a:1", "a:2", "b:1", "b:2"]);
    shelf.end().await
}
