//! A consumer group whose members, topics and partitions come and go.

use std::{process::Stdio, time::Duration};

use outbox::{
    Baseline, Behind, BoxError, Error, Event, Handler, Headers, Inbox, InboxOptions, Json, MemoryRefill,
    Received, Record, RefillOptions, Sink as _, Topic, compare, kafka,
};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewPartitions},
    client::DefaultClientContext,
};
use serde::{Deserialize, Serialize};
use sqlx::{ConnectOptions as _, PgPool, postgres::PgTransaction};
use tokio_util::sync::CancellationToken;

use crate::{
    scripted::{Scripted, line},
    world::{Home, NOTES, Noted, World, effect, noted, until},
};

const MEMOS: Topic = Topic::new("memos.v1");

/// Writes down who took a note.
struct Take(String);

impl Handler for Take {
    const NAME: &'static str = "test.take";
    type Event = Noted;

    async fn handle(&self, tx: &mut PgTransaction<'_>, event: Received<Noted>) -> Result<(), BoxError> {
        effect(tx, &event.meta.key, event.meta.version, &self.0).await
    }
}

fn take(name: &str) -> Take {
    Take(name.to_owned())
}

async fn count(pool: &PgPool, query: &'static str) -> Result<i64, BoxError> {
    Ok(sqlx::query_scalar(query).fetch_one(pool).await?)
}

async fn takers(home: &Home) -> Result<Vec<String>, BoxError> {
    let query = "select distinct text from public.effect order by 1";
    Ok(sqlx::query_scalar(query).fetch_all(&home.admin).await?)
}

fn admin(world: &World) -> Result<AdminClient<DefaultClientContext>, BoxError> {
    Ok(ClientConfig::new().set("bootstrap.servers", &world.kafka.bootstrap_servers).create()?)
}

const PLACE: [&str; 4] = ["MEMBER_DATABASE", "MEMBER_SERVERS", "MEMBER_PREFIX", "MEMBER_GROUP"];

/// Not a story: a member of its own process, for [`a_killed_members_work_goes_on_without_loss_or_double_effect`] to kill.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by a story"]
#[expect(clippy::disallowed_methods, reason = "a story tells this process where to work")]
async fn a_member_in_a_process_of_its_own() -> Result<(), BoxError> {
    let place: Result<Vec<String>, _> = PLACE.iter().map(std::env::var).collect();
    let Ok([database, servers, prefix, group]) = <[String; 4]>::try_from(place?) else {
        return Err("place".into());
    };
    let config = kafka::Config {
        bootstrap_servers: servers,
        topic_prefix: prefix,
        instance_id: None,
        client_id: "child".into(),
    };
    let pool = PgPool::connect(&database).await?;
    let inbox = Inbox::new(pool, kafka::source(&config, &group)?).register(take("child"));
    Ok(inbox.run(CancellationToken::new()).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_members_work_goes_on_without_loss_or_double_effect() -> Result<(), BoxError> {
    let mut world = World::new("killed").await?;
    let home = Home::new(world.stack, "killed", "test.notes").await?;
    world.relay(&home)?;
    let database = home.module.connect_options().to_url_lossy().to_string();
    let place = [&database, &world.kafka.bootstrap_servers, &world.kafka.topic_prefix, "shared"];
    let mut child = tokio::process::Command::new(std::env::current_exe()?)
        .args(["group::a_member_in_a_process_of_its_own", "--exact", "--ignored"])
        .envs(PLACE.into_iter().zip(place))
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let inbox =
        Inbox::new(home.module.clone(), kafka::source(&world.kafka, "shared")?).register(take("here"));
    world.spawn(|shutdown| inbox.run(shutdown));
    let mut published = 0;
    let both = vec!["child".to_owned(), "here".to_owned()];
    until(true, async || {
        Ok(takers(&home).await? == both
            || !{
                for key in 0..20 {
                    home.publish(&noted(&format!("k{key}"), "x")).await?;
                }
                true
            })
    })
    .await?;
    // In the middle of its work.
    for key in 0..20 {
        for _ in 0..10 {
            home.publish(&noted(&format!("k{key}"), "x")).await?;
            published += 1;
        }
    }
    child.kill().await?;
    assert!(published > 0);
    let all = count(&home.admin, "select count(*) from outbox.event").await?;
    until(all, || count(&home.admin, "select count(*) from public.effect")).await?;
    let distinct = count(&home.admin, "select count(distinct (key, version)) from public.effect").await?;
    assert_eq!(distinct, all, "no event took effect twice");
    let in_order = "select count(*) from (
        select version - lag(version, 1, 0) over (partition by key order by n) as step from public.effect) s where step <> 1";
    assert_eq!(count(&home.admin, in_order).await?, 0);
    world.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_are_added_are_read_from_their_beginning() -> Result<(), BoxError> {
    let mut world = World::new("added").await?;
    let home = Home::new(world.stack, "added", "test.notes").await?;
    let inbox = Inbox::new(home.module.clone(), kafka::source(&world.kafka, "inbox")?).register(take("here"));
    world.spawn(|shutdown| inbox.run(shutdown));
    home.publish(&noted("first", "x")).await?;
    let topic = world.kafka.physical(NOTES.name());
    world.relay(&home)?;
    until(1, || count(&home.admin, "select count(*) from public.effect")).await?;
    let more = [NewPartitions::new(&topic, 9)];
    for done in admin(&world)?.create_partitions(&more, &AdminOptions::new()).await? {
        done.map_err(|(_, code)| code.to_string())?;
    }
    // A producer that knows the new partitions; the relay learns of them later.
    let sink = kafka::sink(&world.kafka)?;
    for key in 0..60 {
        sink.send(record(NOTES, &format!("k{key}"))).await?;
    }
    until(61, || count(&home.admin, "select count(*) from public.effect")).await?;
    let noted = "select count(*) from outbox.subscription where partition >= 3";
    until(true, async || Ok(count(&home.admin, noted).await? > 0)).await?;
    world.stop().await?;
    home.drop_now().await
}

/// Version 1 of a key, from another database.
fn record(topic: Topic, key: &str) -> Record {
    let mut headers = Headers::default();
    headers
        .set("ce_id", uuid::Uuid::now_v7().to_string())
        .set("ce_type", Noted::KIND)
        .set("ce_time", "2026-01-01T00:00:00Z")
        .set("banyan-version", "1")
        .set("banyan-origin", "test.elsewhere");
    let payload = format!(r#"{{"key": "{key}", "text": "x"}}"#).into_bytes();
    Record { topic: topic.name().into(), key: key.into(), payload, headers }
}

#[derive(Serialize, Deserialize)]
struct Memo {
    key: String,
    text: String,
}

impl Event for Memo {
    const TOPIC: Topic = MEMOS;
    const KIND: &'static str = Noted::KIND;
    type Codec = Json;

    fn key(&self) -> &str {
        &self.key
    }
}

struct TakeMemo;

impl Handler for TakeMemo {
    const NAME: &'static str = "test.take_memo";
    type Event = Memo;

    async fn handle(&self, tx: &mut PgTransaction<'_>, event: Received<Memo>) -> Result<(), BoxError> {
        effect(tx, &event.meta.key, event.meta.version, &event.event.text).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_gets_a_new_topic_while_its_older_members_stay() -> Result<(), BoxError> {
    let mut world = World::new("newtopic").await?;
    let home = Home::new(world.stack, "newtopic", "test.notes").await?;
    kafka::create_topics(&world.kafka, &[MEMOS], 3).await?;
    let source = || kafka::source(&world.kafka, "inbox");
    let old = Inbox::new(home.module.clone(), source()?).register(take("old"));
    let new = Inbox::new(home.module.clone(), source()?).register(take("new")).register(TakeMemo);
    let sink = kafka::sink(&world.kafka)?;
    sink.send(record(NOTES, "a")).await?;
    for key in 0..20 {
        sink.send(record(MEMOS, &format!("m{key}"))).await?;
    }
    world.spawn(|shutdown| old.run(shutdown));
    until(1, || count(&home.admin, "select count(*) from public.effect")).await?;
    world.spawn(|shutdown| new.run(shutdown));
    until(21, || count(&home.admin, "select count(*) from public.effect")).await?;
    world.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_cut_ends_the_inbox_and_names_the_partition() -> Result<(), BoxError> {
    let world = World::new("cut").await?;
    let home = Home::new(world.stack, "cut", "test.notes").await?;
    let sink = kafka::sink(&world.kafka)?;
    sink.send(record(NOTES, "a")).await?;
    let read = async |stop: CancellationToken| {
        let inbox =
            Inbox::new(home.module.clone(), kafka::source(&world.kafka, "inbox")?).register(take("here"));
        Ok::<_, BoxError>(inbox.run(stop).await)
    };
    let stop = CancellationToken::new();
    let noted = || count(&home.admin, "select count(*) from outbox.subscription");
    let (ended, seen) = tokio::join!(read(stop.clone()), async {
        let seen = until(1, noted).await;
        stop.cancel();
        seen
    });
    seen?;
    ended??;
    // Three more that nobody read, and the log is cut behind them.
    let topic = world.kafka.physical(NOTES.name());
    let mut cut = TopicPartitionList::new();
    for _ in 0..3 {
        sink.send(record(NOTES, "a")).await?;
    }
    let partition: i32 =
        sqlx::query_scalar("select partition from outbox.subscription").fetch_one(&home.admin).await?;
    cut.add_partition_offset(&topic, partition, Offset::Offset(3))?;
    admin(&world)?.delete_records(&cut, &AdminOptions::new()).await?;
    let ended = tokio::time::timeout(Duration::from_secs(40), read(CancellationToken::new())).await??;
    let told = matches!(&ended, Err(Error::OffsetLost { topic, partition: p, reason, .. })
        if topic == NOTES.name() && *p == partition && reason.contains("at offset 1, the log has 3 to 4"));
    assert!(told, "{ended:?}");
    world.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_baseline_of_now_is_said_once_and_stays() -> Result<(), BoxError> {
    let mut world = World::new("baseline").await?;
    let home = Home::new(world.stack, "baseline", "test.notes").await?;
    world.relay(&home)?;
    for _ in 0..3 {
        home.publish(&noted("a", "old")).await?;
    }
    until(0, || home.pending()).await?;
    let source = || kafka::source(&world.kafka, "inbox");
    let because = "the notes of last year are of no use here";
    let stop = CancellationToken::new();
    let inbox =
        Inbox::new(home.module.clone(), source()?).register(take("new")).baseline(Baseline::Now { because });
    let running = tokio::spawn(inbox.run(stop.clone()));
    until(1, || count(&home.admin, "select count(*) from outbox.reader")).await?;
    for (key, text) in [("a", "4"), ("b", "1"), ("a", "5")] {
        home.publish(&noted(key, text)).await?;
    }
    let keys = || async {
        let query = "select key || version from public.effect order by 1";
        Ok(sqlx::query_scalar::<_, String>(query).fetch_all(&home.admin).await?)
    };
    until(["a4", "a5", "b1"].map(String::from).to_vec(), keys).await?;
    stop.cancel();
    running.await??;
    let said: Vec<(String, String)> =
        sqlx::query_as("select kind, because from outbox.baseline").fetch_all(&home.admin).await?;
    assert_eq!(said, [("now".into(), because.into())]);
    // What a later start says changes nothing.
    let inbox = Inbox::new(home.module.clone(), source()?).register(take("later"));
    world.spawn(|shutdown| inbox.run(shutdown));
    home.publish(&noted("a", "6")).await?;
    until(["a4", "a5", "a6", "b1"].map(String::from).to_vec(), keys).await?;
    world.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_baseline_of_the_log_has_what_the_topic_lost() -> Result<(), BoxError> {
    let mut world = World::new("baselog").await?;
    let home = Home::new(world.stack, "baselog", "test.notes").await?;
    let (topic, log) = (Scripted::default(), MemoryRefill::default());
    for version in 1..=4 {
        let event = line("a", version, "x");
        log.add(event.message());
        if version > 2 {
            topic.write(&event);
        }
    }
    let inbox = || Inbox::new(home.module.clone(), topic.clone()).register(take("x")).baseline(Baseline::Log);
    let ended = inbox().run(CancellationToken::new()).await;
    assert!(matches!(&ended, Err(Error::Setup(why)) if why.contains("needs a refill")), "{ended:?}");
    let refill = RefillOptions { gap_after: Duration::ZERO, ..RefillOptions::default() };
    let options = InboxOptions { refill, ..InboxOptions::default() };
    let inbox = inbox().refill(std::sync::Arc::new(log)).with(options);
    world.spawn(|shutdown| inbox.run(shutdown));
    until(["a:1:x", "a:2:x", "a:3:x", "a:4:x"].map(String::from).to_vec(), || home.effects()).await?;
    world.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_handler_in_a_group_that_has_read_on_is_refused() -> Result<(), BoxError> {
    let world = World::new("joined").await?;
    let home = Home::new(world.stack, "joined", "test.notes").await?;
    kafka::sink(&world.kafka)?.send(record(NOTES, "a")).await?;
    let source = || kafka::source(&world.kafka, "inbox");
    let stop = CancellationToken::new();
    let running =
        tokio::spawn(Inbox::new(home.module.clone(), source()?).register(take("x")).run(stop.clone()));
    until(1, || count(&home.admin, "select count(*) from outbox.subscription")).await?;
    stop.cancel();
    running.await??;
    let ended = Inbox::new(home.module.clone(), source()?)
        .register(take("x"))
        .register(crate::crossing::WriteDown::default())
        .run(CancellationToken::new())
        .await;
    assert!(matches!(&ended, Err(Error::Setup(why)) if why.contains("test.write_down is new")), "{ended:?}");
    world.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_tail_is_found_by_comparing_cursors_with_heads() -> Result<(), BoxError> {
    let mut world = World::new("tail").await?;
    let home = Home::new(world.stack, "tail", "test.notes").await?;
    for key in ["a", "b", "c"] {
        for _ in 0..3 {
            home.publish(&noted(key, "x")).await?;
        }
    }
    let log = Scripted::default();
    for (key, versions) in [("a", vec![1, 2]), ("b", vec![1, 3]), ("c", vec![1, 2, 3])] {
        for version in versions {
            log.write(&line(key, version, "x"));
        }
    }
    let inbox = Inbox::new(home.module.clone(), log.clone()).register(take("here"));
    world.spawn(|shutdown| inbox.run(shutdown));
    until(Some(6), async || Ok(log.done_up_to())).await?;
    let behind = async |older_than| compare(&home.module, Take::NAME, NOTES, older_than).await;
    assert_eq!(behind(Duration::ZERO).await?, [], "what is not delivered is not lost");
    sqlx::query("delete from outbox.pending").execute(&home.admin).await?;
    assert_eq!(behind(Duration::from_secs(600)).await?, [], "it may be on its way");
    // b misses version 2, and says so: version 3 waits.
    let lost = Behind { key: "a".into(), head: 3, applied: 2 };
    assert_eq!(behind(Duration::ZERO).await?, [lost]);
    let stranger = compare(&home.admin, Take::NAME, NOTES, Duration::ZERO).await;
    assert!(matches!(stranger, Err(Error::Denied(_))), "{stranger:?}");
    world.stop().await?;
    home.drop_now().await
}
