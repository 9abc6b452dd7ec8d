//! What is parked is tried again in its own time, and each handler's beside the others'.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use outbox::{BoxError, Handler, Inbox, InboxOptions, Received};
use sqlx::postgres::PgTransaction;
use tokio::sync::Semaphore;

use crate::{
    line::texts,
    scripted::{Scripted, line},
    world::{Home, Noted, World, effect, until},
};

/// Refuses texts that start with `!`, and counts how often; a text of `sleep` is a statement that takes its time.
#[derive(Clone, Default)]
struct Picky {
    refusals: Arc<AtomicUsize>,
}

impl Handler for Picky {
    const NAME: &'static str = "test.picky";
    type Event = Noted;

    async fn handle(&self, tx: &mut PgTransaction<'_>, event: Received<Noted>) -> Result<(), BoxError> {
        if event.event.text.starts_with('!') {
            self.refusals.fetch_add(1, Ordering::SeqCst);
            return Err("the note shouts".into());
        }
        if event.event.text == "sleep" {
            sqlx::query("select pg_sleep(30)").execute(&mut **tx).await?;
        }
        effect(tx, &event.event.key, event.meta.version, &event.event.text).await
    }
}

fn soon() -> InboxOptions {
    InboxOptions {
        attempts_max: 4,
        sweep_every: Duration::from_millis(20),
        retry_delay_min: Duration::from_millis(20),
        retry_delay_max: Duration::from_millis(20),
        ..InboxOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_not_tried_before_its_time_whoever_touches_its_key() -> Result<(), BoxError> {
    let mut world = World::new("untouched").await?;
    let home = Home::new(world.stack, "untouched", "test.notes").await?;
    let (log, picky) = (Scripted::default(), Picky::default());
    let first = line("a", 1, "1");
    log.write(&first);
    log.write(&line("a", 2, "!2"));
    let hour = Duration::from_secs(3600);
    let options = InboxOptions { retry_delay_min: hour, retry_delay_max: hour, ..soon() };
    let inbox = Inbox::new(home.module.clone(), log.clone()).register(picky.clone()).with(options);
    world.spawn(|shutdown| inbox.run(shutdown));
    let attempts = async || texts(&home, "select attempts::text from outbox.parked").await;
    until(vec!["2".to_owned()], attempts).await?;
    let refusals = picky.refusals.load(Ordering::SeqCst);
    for _ in 0..6 {
        // A repeat of what was applied: the gate looks what waits behind it.
        let last = log.write(&first);
        until(Some(last), async || Ok(log.done_up_to())).await?;
    }
    // Another member of the group that tried it at the same time says so.
    let said =
        "select outbox.retry_later('test.picky', 'notes.v1', 'a', 2, 'refused', 'no', interval '1 hour')";
    sqlx::query(said).execute(&home.module).await?;
    assert_eq!(attempts().await?, ["2"]);
    assert_eq!(picky.refusals.load(Ordering::SeqCst), refusals);
    assert!(texts(&home, "select key from outbox.dead_letter").await?.is_empty());
    world.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_never_ends_in_time_is_given_up() -> Result<(), BoxError> {
    let mut world = World::new("timeout").await?;
    let home = Home::new(world.stack, "timeout", "test.notes").await?;
    let log = Scripted::default();
    log.write(&line("a", 1, "sleep"));
    log.write(&line("b", 1, "fine"));
    let options = InboxOptions { statement_timeout: Duration::from_millis(300), attempts_max: 2, ..soon() };
    let inbox = Inbox::new(home.module.clone(), log.clone()).register(Picky::default()).with(options);
    world.spawn(|shutdown| inbox.run(shutdown));
    let dead = "select key || ' ' || (error like '%statement timeout%') from outbox.dead_letter";
    until(vec!["a true".to_owned()], async || texts(&home, dead).await).await?;
    until(vec!["b:1:fine".to_owned()], || home.effects()).await?;
    world.stop().await?;
    home.drop_now().await
}

/// Refuses once, then waits for the story.
#[derive(Clone)]
struct Slow {
    tries: Arc<AtomicUsize>,
    go_on: Arc<Semaphore>,
}

impl Handler for Slow {
    const NAME: &'static str = "test.slow";
    type Event = Noted;

    async fn handle(&self, tx: &mut PgTransaction<'_>, event: Received<Noted>) -> Result<(), BoxError> {
        if self.tries.fetch_add(1, Ordering::SeqCst) == 0 {
            return Err("not at once".into());
        }
        drop(self.go_on.acquire().await?);
        effect(tx, &event.event.key, event.meta.version, "slow").await
    }
}

/// Refuses until the slow one waits.
#[derive(Clone)]
struct Quick(Slow);

impl Handler for Quick {
    const NAME: &'static str = "test.quick";
    type Event = Noted;

    async fn handle(&self, tx: &mut PgTransaction<'_>, event: Received<Noted>) -> Result<(), BoxError> {
        if self.0.tries.load(Ordering::SeqCst) < 2 {
            return Err("the slow one first".into());
        }
        effect(tx, &event.event.key, event.meta.version, "quick").await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_handlers_retries_hold_up_no_other_handlers() -> Result<(), BoxError> {
    let mut world = World::new("retries").await?;
    let home = Home::new(world.stack, "retries", "test.notes").await?;
    let log = Scripted::default();
    let slow = Slow { tries: Arc::default(), go_on: Arc::new(Semaphore::new(0)) };
    log.write(&line("a", 1, "1"));
    let options = InboxOptions { attempts_max: 1_000, ..soon() };
    let inbox = Inbox::new(home.module.clone(), log.clone())
        .register(slow.clone())
        .register(Quick(slow.clone()))
        .with(options);
    world.spawn(|shutdown| inbox.run(shutdown));
    until(vec!["a:1:quick".to_owned()], || home.effects()).await?;
    assert_eq!(slow.tries.load(Ordering::SeqCst), 2, "it has not come to an end yet");
    slow.go_on.add_permits(1);
    until(vec!["a:1:quick".to_owned(), "a:1:slow".into()], || home.effects()).await?;
    world.stop().await?;
    home.drop_now().await
}
