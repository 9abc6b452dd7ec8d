//! What a key misses is had from the log, through the gate.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use outbox::{BoxError, DatabaseRefill, Error, MemoryRefill, Message, Refill, RefillOptions, dead_letter};
use uuid::Uuid;

use crate::{
    line::{Scene, record, texts},
    world::{NOTES, noted, until},
};

fn soon() -> RefillOptions {
    RefillOptions {
        gap_after: Duration::from_millis(50),
        every: Duration::from_millis(20),
        delay_min: Duration::from_millis(50),
        delay_max: Duration::from_millis(200),
        ..RefillOptions::default()
    }
}

const FIVE: [&str; 5] = ["a:1:1", "a:2:2", "a:3:3", "a:4:4", "a:5:5"];

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_the_broker_lost_is_had_from_the_log() -> Result<(), BoxError> {
    let mut scene = Scene::new("lost-record").await?;
    for version in 1..=5 {
        let message = scene.make("a", version, &version.to_string());
        if version != 3 {
            scene.line.put(&message);
        }
    }
    scene.start(Some(Arc::new(scene.log.clone())), soon());
    scene.effects(&FIVE).await?;
    scene.at_rest().await?;
    scene.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_database_gives_what_was_delivered() -> Result<(), BoxError> {
    let mut scene = Scene::new("database-log").await?;
    let role = sqlx::query_scalar::<_, String>("select current_database() || '_refill'")
        .fetch_one(&scene.home.admin)
        .await?;
    let create = format!("create role {role} login password 'story'");
    sqlx::query(sqlx::AssertSqlSafe(create)).execute(&scene.home.admin).await?;
    outbox::grant_refill(&scene.home.admin, &role).await?;
    let options = scene.home.admin.connect_options();
    let reader = sqlx::PgPool::connect_with((*options).clone().username(&role).password("story")).await?;
    for version in 1..=5 {
        scene.home.publish(&noted("a", version)).await?;
        scene.home.publish(&noted("other", version)).await?;
    }
    let log = DatabaseRefill(reader.clone());
    assert!(log.events(NOTES.name(), "a", 0, 5, 10).await?.is_empty(), "nothing is delivered yet");
    // As if a relay had delivered all but the third.
    let delivered = "delete from outbox.pending p using outbox.event e
                     where e.position = p.position and not (e.key = 'a' and e.version = 3)";
    sqlx::query(delivered).execute(&scene.home.admin).await?;
    let known = log.events(NOTES.name(), "a", 0, 5, 10).await?;
    assert_eq!(known.len(), 4);
    for message in &known {
        scene.line.put(message);
    }
    scene.start(Some(Arc::new(log.clone())), soon());
    let why = "select error from outbox.overflow where key = 'a' and attempts >= 2";
    until(vec!["the log has no delivered version 3".to_owned()], || texts(&scene.home, why)).await?;
    scene.effects(&FIVE[..2]).await?;
    sqlx::query("delete from outbox.pending").execute(&scene.home.admin).await?;
    scene.effects(&FIVE).await?;
    scene.at_rest().await?;
    let some = log.events(NOTES.name(), "a", 1, 4, 2).await?;
    let versions: Vec<i64> = some.iter().filter_map(version).collect();
    assert_eq!(versions, [2, 3], "in order, after the first, as many as wanted");
    reader.close().await;
    scene.end().await
}

fn version(message: &Message) -> Option<i64> {
    message.headers.iter().find(|(name, _)| name == "banyan-version")?.1.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_finds_no_room_is_known_by_version_and_had_later() -> Result<(), BoxError> {
    let mut scene = Scene::new("full").await?;
    scene.send("a", 1, "!1");
    for version in 2..=10 {
        scene.send("a", version, &version.to_string());
    }
    // The whole handler's room is 12: each of these keys takes one, until there is none.
    for key in 0..20 {
        scene.send(&format!("k{key:02}"), 1, "!1");
    }
    scene.send("z", 1, "flows");
    scene.start(Some(Arc::new(scene.log.clone())), RefillOptions { parked_per_key_max: Some(3), ..soon() });
    scene.effects(&["z:1:flows"]).await?;
    let overflow = "select key || ' ' || version || ' ' || events from outbox.overflow where key = 'a'";
    until(vec!["a 10 7".to_owned()], || texts(&scene.home, overflow)).await?;
    let kept = "select count(*)::text from (select from outbox.parked union all select from outbox.dead_letter) kept";
    until(vec!["12".to_owned()], || texts(&scene.home, kept)).await?;
    scene.sum(31).await?;
    // So does a gate hear of it: twelve events, and each key of which some are known by their versions only.
    let known = "select count(*)::text from outbox.overflow";
    let keys: i64 = texts(&scene.home, known).await?.concat().parse()?;
    assert!(keys > 1, "{keys} keys found no room");
    assert_eq!(outbox::progress(&scene.home.relay, "test.judge", NOTES, &[]).await?.parked, 12 + keys);
    // A repeat of what found no room is a repeat.
    let repeat = scene.log.events(NOTES.name(), "a", 8, 9, 1).await?;
    scene.line.put(&repeat[0]);
    scene.sum(32).await?;
    // Room for one: an event that was known by its version only is kept, and counted in one place.
    let (pool, all) = (scene.home.admin.clone(), dead_letter::Filter::default());
    scene.dead(10).await?;
    let letters = dead_letter::list(&pool, &all, None, 100).await?;
    let gone = letters.iter().find(|letter| letter.key.starts_with('k')).ok_or("a dead letter")?;
    dead_letter::discard(&pool, &[gone.id], "ann", "to make room").await?;
    let tenth = async || {
        let letters = dead_letter::list(&pool, &all, None, 100).await?;
        Ok((letters.len(), letters.iter().any(|letter| letter.id == gone.id)))
    };
    until((10, false), tenth).await?;
    scene.sum(32).await?;
    scene.mend();
    dead_letter::replay_all(&pool, &all, "ann", "mended").await?;
    let mut wanted = vec!["a:1:!1".to_owned()];
    wanted.extend((2..=10).map(|version| format!("a:{version}:{version}")));
    wanted
        .extend((0..20).map(|key| format!("k{key:02}:1:!1")).filter(|effect| !effect.starts_with(&gone.key)));
    wanted.push("z:1:flows".to_owned());
    scene.effects(&wanted.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    scene.at_rest().await?;
    assert_eq!(scene.tally.settled("test.judge"), 32);
    scene.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_has_only_some_events_is_no_reason_to_drop_one() -> Result<(), BoxError> {
    let mut scene = Scene::new("partial").await?;
    let mut wanted = Vec::new();
    for key in 0..20 {
        scene.send(&format!("k{key:02}"), 1, "!1");
        wanted.push(format!("k{key:02}:1:!1"));
    }
    // It has none of these.
    let empty = Arc::new(MemoryRefill::default());
    scene.start(Some(empty), RefillOptions { parked_per_key_max: None, ..soon() });
    scene.dead(12).await?;
    scene.mend();
    let pool = scene.home.admin.clone();
    dead_letter::replay_all(&pool, &dead_letter::Filter::default(), "ann", "mended").await?;
    scene.effects(&wanted.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    scene.at_rest().await?;
    scene.end().await
}

/// The database has no room for one event of one key, for a while.
const NO_ROOM: &str = "create function public.no_room() returns trigger language plpgsql as $$ begin
        raise exception 'as the story wants it' using errcode = '57P03'; end $$;
    create trigger no_room before insert on outbox.parked for each row when (new.key = 'a' and new.version = 6)
        execute function public.no_room()";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_discarded_or_missing_or_had_from_the_log_is_counted_once() -> Result<(), BoxError> {
    let mut scene = Scene::new("counted").await?;
    scene.send("g", 1, "1");
    scene.make("g", 2, "never came");
    scene.send("g", 3, "3");
    let mut last = None;
    for (key, refused) in [("a", [1, 6]), ("c", [1, 2])] {
        for version in 1..=if key == "a" { 6 } else { 5 } {
            let shouts = if refused.contains(&version) { "!" } else { "" };
            last = Some(scene.send(key, version, &format!("{shouts}{version}")));
        }
    }
    scene.start(Some(Arc::new(scene.log.clone())), RefillOptions { parked_per_key_max: Some(3), ..soon() });
    scene.effects(&["g:1:1", "g:2:never came", "g:3:3"]).await?;
    scene.dead(2).await?;
    scene.sum(13).await?;
    // The first of both keys is discarded. The log then gives 4 and 5 of a, and 6 can be neither applied nor kept.
    sqlx::raw_sql(NO_ROOM).execute(&scene.home.admin).await?;
    let (pool, all) = (scene.home.admin.clone(), dead_letter::Filter::default());
    let letters: Vec<Uuid> =
        dead_letter::list(&pool, &all, None, 10).await?.iter().map(|letter| letter.id).collect();
    dead_letter::discard(&pool, &letters, "ann", "as the story wants it").await?;
    until(2, async || Ok(scene.tally.of("test.judge", "refused"))).await?;
    scene.effects(&["a:2:2", "a:3:3", "a:4:4", "a:5:5", "g:1:1", "g:2:never came", "g:3:3"]).await?;
    // The last of c was known by its version, comes again, and finds room behind the second, which is dead.
    scene.dead(1).await?;
    scene.line.put(&last.ok_or("a record")?);
    scene.sum(14).await?;
    sqlx::raw_sql("drop trigger no_room on outbox.parked").execute(&pool).await?;
    scene.dead(2).await?;
    scene.sum(14).await?;
    scene.mend();
    dead_letter::replay_all(&pool, &all, "ann", "mended").await?;
    scene.at_rest().await?;
    until(14, async || Ok(scene.tally.settled("test.judge"))).await?;
    assert_eq!(scene.tally.of("test.judge", "refused"), 2);
    scene.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_event_finds_room_though_those_behind_it_have_it_all() -> Result<(), BoxError> {
    let mut scene = Scene::new("own-turn").await?;
    let sent: Vec<_> = (2..=6).map(|version| scene.send("a", version, &version.to_string())).collect();
    // A log that has nothing.
    let empty = Arc::new(MemoryRefill::default());
    scene.start(Some(empty), RefillOptions { parked_per_key_max: Some(3), ..soon() });
    let overflow = "select version || ' ' || events from outbox.overflow";
    until(vec!["6 2".to_owned()], || texts(&scene.home, overflow)).await?;
    scene.send("a", 1, "!1");
    scene.dead(1).await?;
    scene.sum(6).await?;
    let (pool, all) = (scene.home.admin.clone(), dead_letter::Filter::default());
    let letters = dead_letter::list(&pool, &all, None, 10).await?;
    dead_letter::discard(&pool, &[letters[0].id], "ann", "only so others can go on").await?;
    scene.effects(&["a:2:2", "a:3:3", "a:4:4"]).await?;
    // What was known by its version comes again and finds room: a repeat, though it is kept now.
    scene.line.put(&sent[4]);
    let parked = "select version || ' ' || reason from outbox.parked";
    until(vec!["6 early".to_owned()], || texts(&scene.home, parked)).await?;
    scene.sum(7).await?;
    scene.line.put(&sent[3]);
    scene.effects(&["a:2:2", "a:3:3", "a:4:4", "a:5:5", "a:6:6"]).await?;
    scene.sum(8).await?;
    scene.at_rest().await?;
    scene.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_does_not_answer_holds_up_nobody() -> Result<(), BoxError> {
    let mut scene = Scene::new("silent").await?;
    let door = Door { knocks: Arc::new(AtomicI64::new(1)), ..Door::default() };
    scene.send("a", 2, "2");
    scene.start(Some(Arc::new(door.clone())), RefillOptions { timeout: Duration::from_secs(3600), ..soon() });
    until(2, async || Ok(door.knocks.load(Ordering::SeqCst))).await?;
    scene.send("b", 1, "!1");
    scene.dead(1).await?;
    scene.mend();
    let all = dead_letter::Filter::default();
    dead_letter::replay_all(&scene.home.admin, &all, "ann", "mended").await?;
    scene.effects(&["b:1:!1"]).await?;
    scene.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_with_other_events_is_a_conflict_and_nothing_of_it_is_applied() -> Result<(), BoxError> {
    let mut scene = Scene::new("forged").await?;
    let forged = MemoryRefill::default();
    for key in ["a", "b", "c"] {
        for version in 1..=3 {
            let message = scene.make(key, version, &version.to_string());
            let other = (key == "a" && version == 1) || (key == "b" && version == 3);
            let forgery = || record(&noted(key, "forged"), version, Uuid::now_v7());
            forged.add(if other { forgery() } else { message.clone() });
            if version != 2 {
                scene.line.put(&message);
            }
        }
    }
    scene.start(Some(Arc::new(forged)), soon());
    scene.effects(&["a:1:1", "b:1:1", "c:1:1", "c:2:2", "c:3:3"]).await?;
    let conflicts = "select key || version from outbox.conflict order by 1";
    until(vec!["a1".to_owned(), "b3".into()], || texts(&scene.home, conflicts)).await?;
    let why =
        "select key || ' ' || split_part(error, ' ', 1) from outbox.overflow where attempts > 1 order by key";
    until(vec!["a CONFLICT:".to_owned(), "b CONFLICT:".into()], || texts(&scene.home, why)).await?;
    scene.effects(&["a:1:1", "b:1:1", "c:1:1", "c:2:2", "c:3:3"]).await?;
    scene.end().await
}

/// A log behind a door.
#[derive(Clone, Default)]
struct Door {
    log: MemoryRefill,
    open: Arc<AtomicBool>,
    knocks: Arc<AtomicI64>,
}

#[async_trait]
impl Refill for Door {
    async fn events(
        &self,
        topic: &str,
        key: &str,
        after: i64,
        until: i64,
        limit: i64,
    ) -> Result<Vec<Message>, Error> {
        if self.open.load(Ordering::SeqCst) {
            return self.log.events(topic, key, after, until, limit).await;
        }
        if self.knocks.fetch_add(1, Ordering::SeqCst) % 2 == 0 {
            return Err(Error::Log("nobody is at home".into()));
        }
        std::future::pending().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_down_is_asked_seldom_and_others_go_on() -> Result<(), BoxError> {
    let mut scene = Scene::new("down").await?;
    let door = Door { log: scene.log.clone(), ..Door::default() };
    let keys = ["a", "b", "c", "d", "e"];
    for key in keys {
        scene.send(key, 1, "1");
        scene.make(key, 2, "2");
        scene.send(key, 3, "3");
    }
    let (every, begun) = (Duration::from_millis(150), std::time::Instant::now());
    scene.start(
        Some(Arc::new(door.clone())),
        RefillOptions { every, timeout: Duration::from_millis(50), ..soon() },
    );
    let asked = "select key from outbox.overflow where attempts >= 1 order by key";
    until(keys.map(String::from).to_vec(), || texts(&scene.home, asked)).await?;
    for version in 1..=20 {
        scene.send("z", version, "flows");
    }
    let flows = "select count(*)::text from public.effect where key = 'z'";
    until(vec!["20".to_owned()], || texts(&scene.home, flows)).await?;
    // One key each time: the others would learn the same.
    let knocks = u128::try_from(door.knocks.load(Ordering::SeqCst))?;
    let times = begun.elapsed().as_millis() / every.as_millis() + 1;
    assert!(knocks <= times, "asked {knocks} times in {times} rounds");
    door.open.store(true, Ordering::SeqCst);
    scene.at_rest().await?;
    let filled = "select key || version from public.effect where key <> 'z' order by 1";
    let wanted: Vec<String> =
        keys.iter().flat_map(|key| [1, 2, 3].map(|version| format!("{key}{version}"))).collect();
    assert_eq!(texts(&scene.home, filled).await?, wanted);
    scene.end().await
}
