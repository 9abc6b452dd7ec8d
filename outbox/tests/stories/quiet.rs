//! An inbox whose database says nothing for a while, or for ever on the connections it has.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use outbox::{BoxError, Handler, Inbox, InboxOptions, Received};
use sqlx::{AssertSqlSafe, postgres::PgTransaction};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    scripted::{Scripted, line},
    wire::{Weather, Wire},
    world::{Home, Noted, effect, until},
};

/// Writes notes down. The text `held` waits for the story first.
#[derive(Clone)]
struct Quiet {
    go_on: Arc<Semaphore>,
    held: Arc<AtomicUsize>,
}

impl Quiet {
    fn new() -> Self {
        Self { go_on: Arc::new(Semaphore::new(0)), held: Arc::default() }
    }
}

impl Handler for Quiet {
    const NAME: &'static str = "test.quiet";
    type Event = Noted;

    async fn handle(&self, tx: &mut PgTransaction<'_>, event: Received<Noted>) -> Result<(), BoxError> {
        if event.event.text == "held" {
            self.held.fetch_add(1, Ordering::SeqCst);
            drop(self.go_on.acquire().await?);
        }
        effect(tx, &event.event.key, event.meta.version, &event.event.text).await
    }
}

/// Commits of the key `commit` wait for the advisory lock 77.
const WAIT_AT_COMMIT: &str = "
    create function public.wait_at_commit() returns trigger language plpgsql as $$
    begin
        if new.key = 'commit' then perform pg_advisory_xact_lock(77); end if;
        return null;
    end $$;
    create constraint trigger wait_at_commit after insert on public.effect
        deferrable initially deferred for each row execute function public.wait_at_commit()";

#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_whose_connections_fall_silent_goes_on_with_others() -> Result<(), BoxError> {
    let home = Home::new(stack::shared().await?, "quiet", "test.notes").await?;
    sqlx::raw_sql(WAIT_AT_COMMIT).execute(&home.admin).await?;
    // What the server is left with; without it the keys are locked until it notices.
    let bound = format!("alter role {}_module set idle_in_transaction_session_timeout = '4s'", home.name());
    sqlx::raw_sql(AssertSqlSafe(bound)).execute(&home.admin).await?;
    let mut keeper = home.admin.begin().await?;
    sqlx::raw_sql("select pg_advisory_xact_lock(77)").execute(&mut *keeper).await?;
    let wire = Wire::to(&home.module).await?;
    let (log, quiet) = (Scripted::default(), Quiet::new());
    let options = InboxOptions {
        statement_timeout: Duration::from_secs(3),
        effect_timeout: Duration::from_secs(3),
        attempts_max: 1,
        ..InboxOptions::default()
    };
    let inbox = Inbox::new(wire.pool(), log.clone()).register(quiet.clone()).with(options);
    let stop = CancellationToken::new();
    let running = tokio::spawn(inbox.run(stop.clone()));
    // One is in its handler, one in its commit.
    log.write(&line("handler", 1, "held"));
    until(1, async || Ok(quiet.held.load(Ordering::SeqCst))).await?;
    log.write(&line("commit", 1, "fine"));
    let waits = "select count(*) from pg_locks join pg_database on pg_database.oid = database
                 where datname = current_database() and locktype = 'advisory' and objid = 77 and not granted";
    until(1i64, async || Ok(sqlx::query_scalar(waits).fetch_one(&home.admin).await?)).await?;

    wire.lose_connections();
    keeper.commit().await?;
    until(vec!["commit:1:fine".to_owned()], || home.effects()).await?;
    quiet.go_on.add_permits(1);
    until(Some(1), async || Ok(log.done_up_to())).await?;
    assert_eq!(home.effects().await?, ["commit:1:fine", "handler:1:held"]);
    let dead: i64 =
        sqlx::query_scalar("select count(*) from outbox.dead_letter").fetch_one(&home.admin).await?;
    assert_eq!(dead, 0, "a silence is no verdict");
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(20), running).await???;
    drop(wire);
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_of_an_inbox_does_not_wait_for_a_silent_database() -> Result<(), BoxError> {
    let home = Home::new(stack::shared().await?, "quietstop", "test.notes").await?;
    let wire = Wire::to(&home.module).await?;
    let (log, quiet) = (Scripted::default(), Quiet::new());
    let options = InboxOptions {
        statement_timeout: Duration::from_millis(500),
        effect_timeout: Duration::from_millis(500),
        ..InboxOptions::default()
    };
    let inbox = Inbox::new(wire.pool(), log.clone()).register(quiet.clone()).with(options);
    let stop = CancellationToken::new();
    let running = tokio::spawn(inbox.run(stop.clone()));
    let event = line("a", 1, "held");
    log.write(&event);
    until(1, async || Ok(quiet.held.load(Ordering::SeqCst))).await?;
    wire.turn(Weather::Silent);
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(20), running).await???;
    assert_eq!(log.done_up_to(), None, "it is read again");
    drop(wire);

    quiet.go_on.add_permits(1);
    let log = Scripted::default();
    log.write(&event);
    let stop = CancellationToken::new();
    let next = tokio::spawn(Inbox::new(home.module.clone(), log.clone()).register(quiet).run(stop.clone()));
    until(Some(0), async || Ok(log.done_up_to())).await?;
    assert_eq!(home.effects().await?, ["a:1:held"]);
    stop.cancel();
    next.await??;
    home.drop_now().await
}
