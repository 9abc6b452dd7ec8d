//! How an inbox works: by key at the same time, in batches, and what is in the way stops its key only.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use outbox::{BoxError, Error, Handler, Inbox, InboxOptions, Received};
use sqlx::{PgPool, postgres::PgTransaction};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    scripted::{Scripted, line},
    world::{Home, Noted, World, effect, until},
};

/// Writes notes down. A text says what else happens: `!` is refused, `wait` waits for the story.
#[derive(Clone)]
struct Work {
    go_on: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    largest: Arc<AtomicUsize>,
}

impl Work {
    fn new() -> Self {
        Self { go_on: Arc::new(Semaphore::new(0)), waiting: Arc::default(), largest: Arc::default() }
    }
}

impl Handler for Work {
    const NAME: &'static str = "test.work";
    type Event = Noted;

    async fn handle(&self, tx: &mut PgTransaction<'_>, event: Received<Noted>) -> Result<(), BoxError> {
        match event.event.text.as_str() {
            "!" => return Err("the note shouts".into()),
            "wait" => {
                self.waiting.fetch_add(1, Ordering::SeqCst);
                drop(self.go_on.acquire().await?);
            }
            "lock" => {
                sqlx::query("update public.effect set text = 'mine' where key = 'row'")
                    .execute(&mut **tx)
                    .await?;
            }
            _ => {}
        }
        effect(tx, &event.event.key, event.meta.version, &event.event.text).await
    }

    async fn handle_batch(
        &self,
        tx: &mut PgTransaction<'_>,
        events: Vec<Received<Noted>>,
    ) -> Result<(), BoxError> {
        self.largest.fetch_max(events.len(), Ordering::SeqCst);
        for event in events {
            self.handle(tx, event).await?;
        }
        Ok(())
    }
}

async fn count(pool: &PgPool, query: &'static str) -> Result<i64, BoxError> {
    Ok(sqlx::query_scalar(query).fetch_one(pool).await?)
}

async fn parked(home: &Home) -> Result<Vec<String>, BoxError> {
    let query = "select key || version || ' ' || reason from outbox.parked order by 1";
    Ok(sqlx::query_scalar(query).fetch_all(&home.admin).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_go_on_side_by_side_and_each_in_order() -> Result<(), BoxError> {
    let mut world = World::new("working").await?;
    let home = Home::new(world.stack, "working", "test.notes").await?;
    let log = Scripted::default();
    for version in 1..=20 {
        for key in 0..200 {
            log.write(&line(&format!("k{key}"), version, "fine"));
        }
    }
    let work = Work::new();
    let inbox = Inbox::new(home.module.clone(), log.clone()).register(work.clone());
    world.spawn(|shutdown| inbox.run(shutdown));
    until(Some(3999), async || Ok(log.done_up_to())).await?;
    let rows: Vec<(String, i64)> =
        sqlx::query_as("select key, version from public.effect order by n").fetch_all(&home.admin).await?;
    assert_eq!(rows.len(), 4000);
    let mut last: BTreeMap<String, i64> = BTreeMap::new();
    for (key, version) in rows {
        let before = last.insert(key.clone(), version).unwrap_or(0);
        assert_eq!(version, before + 1, "{key}");
    }
    let transactions = count(&home.admin, "select count(distinct xmin::text) from public.effect").await?;
    assert!(transactions < 400, "{transactions} transactions for 4,000 events");
    assert!(work.largest.load(Ordering::SeqCst) > 10, "batches reach the handler as batches");
    world.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_faulty_event_of_a_batch_is_refused_alone() -> Result<(), BoxError> {
    let mut world = World::new("faulty").await?;
    let home = Home::new(world.stack, "faulty", "test.notes").await?;
    let log = Scripted::default();
    for key in 0..300 {
        let key = format!("k{key}");
        log.write(&line(&key, 1, if key == "k150" { "!" } else { "fine" }));
        log.write(&line(&key, 2, "fine"));
    }
    let inbox = Inbox::new(home.module.clone(), log.clone()).register(Work::new());
    let tally = inbox.tally();
    world.spawn(|shutdown| inbox.run(shutdown));
    until(Some(599), async || Ok(log.done_up_to())).await?;
    assert_eq!(count(&home.admin, "select count(*) from public.effect").await?, 598);
    assert_eq!(parked(&home).await?, ["k1501 refused", "k1502 early"]);
    assert_eq!(tally.of("test.work", "applied"), 598);
    world.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_event_holds_its_key_and_its_position_only() -> Result<(), BoxError> {
    let mut world = World::new("slow").await?;
    let home = Home::new(world.stack, "slow", "test.notes").await?;
    let log = Scripted::default();
    let work = Work::new();
    let inbox = Inbox::new(home.module.clone(), log.clone()).register(work.clone());
    world.spawn(|shutdown| inbox.run(shutdown));
    let fine = async || count(&home.admin, "select count(*) from public.effect where text = 'fine'").await;
    log.write(&line("before", 1, "fine"));
    until(1, fine).await?;
    let slow = log.write(&line("slow", 1, "wait"));
    // What is read together is committed together; this one is at work alone.
    until(1, async || Ok(work.waiting.load(Ordering::SeqCst))).await?;
    let behind = log.write(&line("slow", 2, "fine"));
    for key in 0..50 {
        log.write(&line(&format!("k{key}"), 1, "fine"));
        until(key + 2, fine).await?;
    }
    assert_eq!(log.done_up_to(), Some(slow - 1), "a restart must meet the slow one again");
    work.go_on.add_permits(1);
    until(Some(behind + 50), async || Ok(log.done_up_to())).await?;
    until(52, fine).await?;
    world.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_event_holds_the_others_of_its_batch_once() -> Result<(), BoxError> {
    let mut world = World::new("slowest").await?;
    let home = Home::new(world.stack, "slowest", "test.notes").await?;
    let log = Scripted::default();
    for key in 0..64 {
        let key = format!("k{key:02}");
        log.write(&line(&key, 1, if key == "k20" { "wait" } else { "fine" }));
        log.write(&line(&key, 2, "fine"));
    }
    let work = Work::new();
    let options = InboxOptions { effect_timeout: Duration::from_millis(500), ..InboxOptions::default() };
    let inbox = Inbox::new(home.module.clone(), log.clone()).register(work.clone()).with(options);
    world.spawn(|shutdown| inbox.run(shutdown));
    until(126, || count(&home.admin, "select count(*) from public.effect")).await?;
    assert_eq!(work.largest.load(Ordering::SeqCst), 128, "all were one batch");
    let begun = work.waiting.load(Ordering::SeqCst);
    assert!(
        begun <= 3,
        "the others waited for {begun} runs of the slow one, not for the batch's and a short one"
    );
    work.go_on.add_permits(1);
    until(128, || count(&home.admin, "select count(*) from public.effect")).await?;
    let slow =
        home.effects().await?.into_iter().filter(|effect| effect.starts_with("k20")).collect::<Vec<_>>();
    assert_eq!(slow, ["k20:1:wait", "k20:2:fine"]);
    world.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_inbox_holds_its_source_back_and_reads_on() -> Result<(), BoxError> {
    let mut world = World::new("full").await?;
    let home = Home::new(world.stack, "full", "test.notes").await?;
    let log = Scripted::default();
    log.write(&line("slow", 1, "wait"));
    for version in 2..=20 {
        log.write(&line("slow", version, "fine"));
    }
    let work = Work::new();
    let options = InboxOptions {
        batch_max: 1,
        buffer_max: 4,
        hold_after: Duration::from_millis(100),
        ..InboxOptions::default()
    };
    let inbox = Inbox::new(home.module.clone(), log.clone()).register(work.clone()).with(options);
    world.spawn(|shutdown| inbox.run(shutdown));
    until(true, async || Ok(log.is_held())).await?;
    assert_eq!(log.unread(), 16, "no more than buffer_max is in hand");
    work.go_on.add_permits(1);
    until(Some(19), async || Ok(log.done_up_to())).await?;
    assert!(!log.is_held());
    assert_eq!(home.effects().await?.len(), 20);
    world.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_stays_locked_fails_its_key_only() -> Result<(), BoxError> {
    let mut world = World::new("locked").await?;
    let home = Home::new(world.stack, "locked", "test.notes").await?;
    sqlx::query("insert into public.effect (key, version, text) values ('row', 0, 'free')")
        .execute(&home.admin)
        .await?;
    let log = Scripted::default();
    for (key, text) in [("a", "lock"), ("b", "fine"), ("c", "fine")] {
        log.write(&line(key, 1, text));
    }
    let mut other = home.admin.begin().await?;
    sqlx::query("update public.effect set text = 'theirs' where key = 'row'").execute(&mut *other).await?;
    let options = InboxOptions {
        lock_timeout: Duration::from_millis(50),
        passing_max: 2,
        retry_delay_max: Duration::from_millis(200),
        ..InboxOptions::default()
    };
    let inbox = Inbox::new(home.module.clone(), log.clone()).register(Work::new()).with(options);
    world.spawn(|shutdown| inbox.run(shutdown));
    until(Some(2), async || Ok(log.done_up_to())).await?;
    assert_eq!(parked(&home).await?, ["a1 failed"]);
    other.rollback().await?;
    until(Vec::<String>::new(), async || parked(&home).await).await?;
    let dead = "select count(*) from outbox.dead_letter";
    assert_eq!(count(&home.admin, dead).await?, 0, "only a handler's verdict counts as an attempt");
    world.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_never_ends_is_refused() -> Result<(), BoxError> {
    let mut world = World::new("endless").await?;
    let home = Home::new(world.stack, "endless", "test.notes").await?;
    let log = Scripted::default();
    log.write(&line("a", 1, "wait"));
    log.write(&line("b", 1, "fine"));
    let options = InboxOptions {
        effect_timeout: Duration::from_millis(100),
        attempts_max: 1,
        ..InboxOptions::default()
    };
    let inbox = Inbox::new(home.module.clone(), log.clone()).register(Work::new()).with(options);
    world.spawn(|shutdown| inbox.run(shutdown));
    until(Some(1), async || Ok(log.done_up_to())).await?;
    let dead: Vec<String> = sqlx::query_scalar("select key || ' ' || error from outbox.dead_letter")
        .fetch_all(&home.admin)
        .await?;
    assert_eq!(dead, ["a the handler took longer than effect_timeout"]);
    until(vec!["b:1:fine".to_owned()], || home.effects()).await?;
    world.stop().await?;
    home.drop_now().await
}

/// Another handler with the name of [`Work`].
struct Namesake;

impl Handler for Namesake {
    const NAME: &'static str = Work::NAME;
    type Event = Noted;

    async fn handle(&self, _: &mut PgTransaction<'_>, _: Received<Noted>) -> Result<(), BoxError> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_belongs_to_one_handler_and_one_role() -> Result<(), BoxError> {
    let world = World::new("names").await?;
    let home = Home::new(world.stack, "names", "test.notes").await?;
    let stop = CancellationToken::new;
    let twice = Inbox::new(home.module.clone(), Scripted::default()).register(Work::new()).register(Namesake);
    let ended = twice.run(stop()).await;
    assert!(matches!(&ended, Err(Error::Setup(why)) if why.contains("test.work")), "{ended:?}");
    sqlx::query("insert into outbox.handler (name, role) values ('test.work', 'somebody')")
        .execute(&home.admin)
        .await?;
    let ended = Inbox::new(home.module.clone(), Scripted::default()).register(Work::new()).run(stop()).await;
    let told = matches!(&ended, Err(Error::Denied(why)) if why.contains("belongs to role somebody"));
    assert!(told, "{ended:?}");
    world.stop().await?;
    home.drop_now().await
}
