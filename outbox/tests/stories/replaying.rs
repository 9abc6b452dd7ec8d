//! The log once more: to Kafka, before a gate, and with a cursor set back.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use outbox::{
    Baseline, BoxError, Error, Inbox, Record, Refusal, Sink, audit,
    memory::{Memory, MemorySink},
    replay::{self, Options, Selection},
};
use time::OffsetDateTime;

use crate::{
    shelf::{Keep, ME, Shelf, WHY},
    world::{NOTES, until},
};

fn all_of(key: &str) -> Selection {
    Selection::Key { topic: NOTES, key: key.into(), first: None, last: None }
}

fn versions(key: &str, first: i64, last: i64) -> Selection {
    Selection::Key { topic: NOTES, key: key.into(), first: Some(first), last: Some(last) }
}

fn handler() -> &'static str {
    <Keep as outbox::Handler>::NAME
}

/// Lets some records through and is then out of reach.
struct Failing(MemorySink, AtomicUsize);

#[async_trait]
impl Sink for Failing {
    async fn send(&self, record: Record) -> Result<(), Refusal> {
        if self.1.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err() {
            return Err(Refusal::Outage("the story wants it".into()));
        }
        self.0.send(record).await
    }

    async fn check(&self) -> Result<(), Error> {
        self.0.check().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_repeats_what_was_delivered_and_nothing_else() -> Result<(), BoxError> {
    let mut shelf = Shelf::new("repeats").await?;
    let memory = shelf.memory.clone();
    shelf.inbox(&memory);
    memory.refuse(|record| record.headers.get("banyan-version") == Some("3"));
    shelf.publish("a", 4).await?;
    shelf.publish("b", 1).await?;
    shelf.relay();
    until(2, || shelf.home.pending()).await?;
    let id = replay::ask(&shelf.operator, &all_of("a"), ME, WHY).await?;
    let done = replay::send(&shelf.operator, &memory.sink(), id, &Options::default()).await?;
    assert_eq!((done.delivered, done.passed, done.ended_at.is_some()), (2, 2, true));
    let told = |key: &str| shelf.records().into_iter().filter(|r| r.starts_with(key)).collect::<Vec<_>>();
    assert_eq!(told("a"), ["a:1", "a:2", "a:1 again", "a:2 again"]);
    let records = memory.records(NOTES.name());
    let id_of = |n: usize| {
        let of_a: Vec<_> = records.iter().filter(|r| r.key.as_deref() == Some(b"a")).collect();
        of_a[n].headers.iter().find(|h| h.0 == "ce_id").cloned()
    };
    assert_eq!((id_of(0), id_of(1)), (id_of(2), id_of(3)), "the same events");
    // The key goes on where it was, and the repeats had no effect.
    memory.refuse(|_| false);
    until(0, || shelf.home.pending()).await?;
    assert_eq!(told("a")[4..], ["a:3", "a:4"]);
    until(5, || async { Ok(shelf.home.effects().await?.len()) }).await?;
    assert_eq!(told("b"), ["b:1"]);
    let subject = audit::list(&shelf.operator, &audit::Filter::default(), None, 9).await?;
    assert_eq!(subject[0].action, "replay");
    assert_eq!(subject[0].subject["replay"], id);
    shelf.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_goes_on_where_it_broke_off() -> Result<(), BoxError> {
    let mut shelf = Shelf::new("goeson").await?;
    let since = OffsetDateTime::now_utc() - Duration::from_secs(60);
    for key in ["a", "b", "c"] {
        shelf.publish(key, 9).await?;
    }
    shelf.relay();
    until(0, || shelf.home.pending()).await?;
    let until_ = OffsetDateTime::now_utc() + Duration::from_secs(60);
    let range = Selection::Time { topic: NOTES, since, until: until_ };
    let id = replay::ask(&shelf.operator, &range, ME, WHY).await?;
    let sink = Failing(shelf.memory.sink(), AtomicUsize::new(13));
    let options = Options { batch_max: 5, attempts_max: 1, ..Options::default() };
    let broken = replay::send(&shelf.operator, &sink, id, &options).await;
    assert!(matches!(broken, Err(Error::Broker(_))), "{broken:?}");
    let at = replay::list(&shelf.operator, 1).await?.remove(0);
    assert_eq!((at.delivered, at.ended_at), (10, None));
    let done = replay::send(&shelf.operator, &shelf.memory.sink(), id, &options).await?;
    assert_eq!((done.delivered, done.passed), (27, 0));
    let again: Vec<String> = shelf.records().into_iter().filter(|r| r.ends_with("again")).collect();
    assert_eq!((again.len(), again.iter().collect::<BTreeSet<_>>().len()), (27 + 3, 27));
    // Ended, or left alone for a day: somebody has to ask anew.
    let ended = replay::send(&shelf.operator, &sink, id, &options).await;
    assert!(matches!(&ended, Err(Error::Refused(why)) if why.contains("is not open")), "{ended:?}");
    let other = replay::ask(&shelf.operator, &range, ME, WHY).await?;
    let forget = "update outbox.replay set touched_at = now() - interval '25 hours'";
    sqlx::query(forget).execute(&shelf.home.admin).await?;
    assert!(replay::send(&shelf.operator, &sink, other, &options).await.is_err());
    shelf.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_does_not_hold_is_not_promised() -> Result<(), BoxError> {
    let mut shelf = Shelf::new("nothere").await?;
    shelf.publish("a", 3).await?;
    shelf.relay();
    until(0, || shelf.home.pending()).await?;
    let long_ago = OffsetDateTime::now_utc() - Duration::from_secs(90 * 86_400);
    let range = Selection::Time { topic: NOTES, since: long_ago, until: OffsetDateTime::now_utc() };
    sqlx::query("delete from outbox.event where version = 1").execute(&shelf.home.admin).await?;
    for (selection, why) in [
        (range, "the log begins at"),
        (all_of("unknown"), "version 1 of notes.v1/unknown is not in this log"),
        (versions("a", 1, 2), "version 1 of notes.v1/a is not in this log"),
        (versions("a", 2, 4), "version 4 of notes.v1/a is not in this log"),
        (Selection::DeadLetter(uuid::Uuid::now_v7()), "there is no dead letter"),
    ] {
        let refused = replay::ask(&shelf.operator, &selection, ME, WHY).await;
        assert!(matches!(&refused, Err(Error::Refused(said)) if said.contains(why)), "{refused:?}");
    }
    let nobody = replay::ask(&shelf.operator, &all_of("a"), " ", WHY).await;
    assert!(matches!(nobody, Err(Error::Unexplained { what: "actor", .. })), "{nobody:?}");
    assert_eq!((shelf.count("outbox.replay").await?, shelf.count("outbox.audit").await?), (0, 0));
    // A module may not replay.
    let denied = replay::ask(&shelf.home.module, &all_of("a"), ME, WHY).await;
    assert!(matches!(denied, Err(Error::Denied(_))), "{denied:?}");
    shelf.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_that_another_home_published_in_between_are_not_left_out_in_silence() -> Result<(), BoxError>
{
    let mut shelf = Shelf::new("between").await?;
    shelf.publish("a", 1).await?;
    // The other home has had the key, and has given it back.
    for version in 2..=4 {
        let mut tx = shelf.home.module.begin().await?;
        assert!(outbox::follow(&mut tx, NOTES, "a", version, uuid::Uuid::now_v7()).await?);
        tx.commit().await?;
    }
    shelf.publish("a", 2).await?;
    shelf.relay();
    until(0, || shelf.home.pending()).await?;
    for (selection, absent) in [
        (all_of("a"), 2),
        (versions("a", 1, 5), 2),
        (versions("a", 3, 6), 3),
        (versions("a", 2, 3), 2),
        (versions("a", 5, 9), 7),
    ] {
        let refused = replay::ask(&shelf.operator, &selection, ME, WHY).await;
        let why = format!("version {absent} of notes.v1/a is not in this log");
        assert!(matches!(&refused, Err(Error::Refused(said)) if *said == why), "{selection:?}: {refused:?}");
    }
    assert_eq!(shelf.count("outbox.replay").await?, 0);
    let id = replay::ask(&shelf.operator, &versions("a", 5, 6), ME, WHY).await?;
    let done = replay::send(&shelf.operator, &shelf.memory.sink(), id, &Options::default()).await?;
    assert_eq!((done.delivered, done.passed), (2, 0));
    assert_eq!(shelf.records(), ["a:1", "a:5", "a:6", "a:5 again", "a:6 again"]);
    shelf.end().await
}

/// A home whose handler has lost version 2 of `a`, and keeps version 3 waiting for it.
async fn lossy(name: &str) -> Result<(Shelf, Memory), BoxError> {
    let mut shelf = Shelf::new(name).await?;
    shelf.publish("a", 3).await?;
    shelf.relay();
    until(0, || shelf.home.pending()).await?;
    let lossy = Memory::new(1);
    for message in shelf.memory.records(NOTES.name()) {
        if !message.headers.contains(&("banyan-version".into(), "2".into())) {
            lossy.append(message);
        }
    }
    shelf.inbox(&lossy);
    until(vec!["a:1:1".to_owned()], || shelf.home.effects()).await?;
    until(1, || shelf.count("outbox.parked")).await?;
    Ok((shelf, lossy))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redelivery_fills_a_gap_and_repeats_no_effect() -> Result<(), BoxError> {
    let (shelf, lossy) = lossy("redelivers").await?;
    let id = replay::ask_for(&shelf.operator, handler(), &all_of("a"), ME, WHY).await?;
    let wrong = replay::send(&shelf.operator, &shelf.memory.sink(), id, &Options::default()).await;
    assert!(matches!(wrong, Err(Error::Refused(_))), "{wrong:?}");
    let done = replay::redeliver(&shelf.operator, id, &Options::default()).await?;
    assert_eq!((done.delivered, done.passed), (1, 2));
    let whole = ["a:1:1", "a:2:2", "a:3:3"].map(String::from).to_vec();
    until(whole.clone(), || shelf.home.effects()).await?;
    lossy.redeliver("keep");
    let id = replay::ask_for(&shelf.operator, handler(), &all_of("a"), ME, WHY).await?;
    assert_eq!(replay::redeliver(&shelf.operator, id, &Options::default()).await?.delivered, 0);
    until(0, || shelf.count("outbox.parked")).await?;
    assert_eq!(shelf.home.effects().await?, whole);
    let stranger = replay::ask_for(&shelf.operator, "test.nobody", &all_of("a"), ME, WHY).await;
    assert!(matches!(&stranger, Err(Error::Refused(why)) if why.contains("has not met")), "{stranger:?}");
    shelf.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redelivery_begins_a_key_of_a_handler_that_began_now() -> Result<(), BoxError> {
    let mut shelf = Shelf::new("begins").await?;
    shelf.publish("a", 3).await?;
    shelf.relay();
    until(0, || shelf.home.pending()).await?;
    let inbox = Inbox::new(shelf.home.module.clone(), shelf.memory.source("keep")).register(Keep);
    let inbox = inbox.baseline(Baseline::Now { because: WHY });
    shelf.spawn(|shutdown| inbox.run(shutdown));
    until(1, || shelf.count("outbox.reader")).await?;
    shelf.publish("b", 1).await?;
    until(vec!["b:1:1".to_owned()], || shelf.home.effects()).await?;
    let id = replay::ask_for(&shelf.operator, handler(), &versions("a", 2, 3), ME, WHY).await?;
    assert_eq!(replay::redeliver(&shelf.operator, id, &Options::default()).await?.delivered, 2);
    until(["b:1:1", "a:2:2", "a:3:3"].map(String::from).to_vec(), || shelf.home.effects()).await?;
    shelf.publish("a", 1).await?;
    until(4, || async { Ok(shelf.home.effects().await?.len()) }).await?;
    assert_eq!(shelf.count("outbox.parked").await? + shelf.count("outbox.overflow").await?, 0);
    shelf.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_before_a_gate_is_what_a_relay_would_send() -> Result<(), BoxError> {
    let mut shelf = Shelf::new("thesame").await?;
    shelf.publish("a", 1).await?;
    shelf.relay();
    until(0, || shelf.home.pending()).await?;
    let begun = "insert into outbox.handler (name, role) values ('test.keep', 'x');
                 insert into outbox.cursor (handler, topic, key, version) values ('test.keep', 'notes.v1', 'b', 0)";
    sqlx::raw_sql(begun).execute(&shelf.home.admin).await?;
    let id = replay::ask_for(&shelf.operator, handler(), &all_of("a"), ME, WHY).await?;
    replay::redeliver(&shelf.operator, id, &Options::default()).await?;
    let (payload, headers): (Vec<u8>, sqlx::types::Json<std::collections::BTreeMap<String, String>>) =
        sqlx::query_as("select payload, headers from outbox.parked").fetch_one(&shelf.home.admin).await?;
    let sent = shelf.memory.records(NOTES.name()).remove(0);
    assert_eq!(payload, sent.payload);
    assert_eq!(headers.0, sent.headers.into_iter().collect());
    shelf.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_set_back_applies_again_in_order() -> Result<(), BoxError> {
    let mut shelf = Shelf::new("rewinds").await?;
    let memory = shelf.memory.clone();
    shelf.inbox(&memory);
    shelf.publish("a", 3).await?;
    shelf.publish("b", 1).await?;
    shelf.relay();
    until(4, || async { Ok(shelf.home.effects().await?.len()) }).await?;
    let rewind = |to| replay::rewind(&shelf.operator, handler(), (NOTES, "a"), to, ME, WHY);
    assert_eq!(rewind(1).await?, 2);
    // Redelivered meanwhile: the same versions come on two ways, and take effect once more, not twice more.
    memory.redeliver("keep");
    let of_a = || async {
        Ok(shelf.home.effects().await?.into_iter().filter(|e| e.starts_with('a')).collect::<Vec<_>>())
    };
    until(["a:1:1", "a:2:2", "a:3:3", "a:2:2", "a:3:3"].map(String::from).to_vec(), of_a).await?;
    until(0, || shelf.count("outbox.parked")).await?;
    shelf.publish("a", 1).await?;
    until(6, || async { Ok(of_a().await?.len()) }).await?;
    assert_eq!(shelf.count("outbox.cursor where waiting <> 0").await?, 0);
    // What is not possible changes nothing.
    sqlx::query("delete from outbox.event where key = 'a' and version = 2")
        .execute(&shelf.home.admin)
        .await?;
    for (to, why) in [(4, "is at version 4"), (-1, "not below 0"), (0, "only 2 of the 4")] {
        let refused = rewind(to).await;
        assert!(matches!(&refused, Err(Error::Refused(said)) if said.contains(why)), "{refused:?}");
    }
    assert_eq!((shelf.count("outbox.parked").await?, of_a().await?.len()), (0, 6));
    shelf.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_asks_for_in_sql_is_done_by_whoever_runs_replays() -> Result<(), BoxError> {
    let (mut shelf, _lossy) = lossy("runs").await?;
    let (pool, sink) = (shelf.operator.clone(), shelf.memory.sink());
    let options = Options { every: Duration::from_millis(50), ..Options::default() };
    shelf.spawn(|shutdown| async move {
        replay::run(pool, sink, options, shutdown).await;
        Ok(())
    });
    // One to Kafka, and one for the handler that has a gap.
    let ask = "select outbox.ask_replay('notes.v1', 'a', null, null, null, null, handler, 'ann', 'by hand')
               from (values (null), ('test.keep')) asked (handler)";
    sqlx::query(ask).execute(&shelf.operator).await?;
    until(2, || shelf.count("outbox.replay where ended_at is not null")).await?;
    let again: Vec<String> = shelf.records().into_iter().filter(|r| r.ends_with("again")).collect();
    assert_eq!(again, ["a:1 again", "a:2 again", "a:3 again"]);
    until(["a:1:1", "a:2:2", "a:3:3"].map(String::from).to_vec(), || shelf.home.effects()).await?;
    shelf.end().await
}
