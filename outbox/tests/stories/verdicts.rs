//! Each record comes to one verdict, and none vanishes.

use std::time::Duration;

use outbox::{
    BoxError, Error, Handler, Inbox, InboxOptions, Incoming, Received, Replica, StateTransfer, Topic,
};
use sqlx::postgres::PgTransaction;
use tokio_util::sync::CancellationToken;

use crate::{
    scripted::{Line, Scripted, line},
    world::{Home, NOTES, Noted, World, effect, noted, until},
};

const SKIPPED: &str = "outbox.skipped.v1";

/// Writes notes down; some texts are traps.
struct Sum;

impl Handler for Sum {
    const NAME: &'static str = "test.sum";
    type Event = Noted;

    async fn handle(&self, tx: &mut PgTransaction<'_>, event: Received<Noted>) -> Result<(), BoxError> {
        match event.event.text.as_str() {
            "!" => Err("the note shouts".into()),
            "panic" => panic!("as the story wants it"),
            text => effect(tx, &event.event.key, event.meta.version, text).await,
        }
    }
}

/// The same as a replica's: a text of `S` is a snapshot.
struct Mirror;

struct Any(String);

impl Incoming for Any {
    const TOPIC: Topic = NOTES;

    fn decode(_: &str, payload: &[u8]) -> Option<Result<Self, BoxError>> {
        Some(Ok(Self(String::from_utf8_lossy(payload).into_owned())))
    }
}

impl StateTransfer for Mirror {
    const NAME: &'static str = "test.copy";
    type Event = Any;

    fn is_snapshot(kind: &str) -> bool {
        kind == "test.snapped.v1"
    }

    async fn apply(&self, tx: &mut PgTransaction<'_>, event: Received<Any>) -> Result<(), BoxError> {
        effect(tx, &event.meta.key, event.meta.version, if event.event.0.is_empty() { "-" } else { "+" })
            .await
    }
}

fn options() -> InboxOptions {
    InboxOptions {
        attempts_max: 2,
        retry_delay_min: Duration::from_millis(20),
        sweep_every: Duration::from_millis(20),
        ..InboxOptions::default()
    }
}

/// Rows kept for a handler: parked, and dead as `key error`.
async fn kept(home: &Home, handler: &str) -> Result<(i64, Vec<String>), BoxError> {
    let parked = sqlx::query_scalar("select count(*) from outbox.parked where handler = $1");
    let dead = sqlx::query_scalar(
        "select key || ' ' || error from outbox.dead_letter where handler = $1 order by 1",
    );
    Ok((parked.bind(handler).fetch_one(&home.admin).await?, dead.bind(handler).fetch_all(&home.admin).await?))
}

async fn conflicts(home: &Home) -> Result<Vec<(String, String, String)>, BoxError> {
    let query = "select key || version, applied_id::text, other_id::text from outbox.conflict order by 1";
    Ok(sqlx::query_as(query).fetch_all(&home.admin).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handlers_verdicts_sum_up_to_what_was_read() -> Result<(), BoxError> {
    let mut world = World::new("sum").await?;
    let home = Home::new(world.stack, "sum", "test.notes").await?;
    let log = Scripted::default();
    let first = line("a", 1, "1");
    let other = line("a", 2, "two owners");
    let lines = [
        first.clone(),
        line("a", 2, "2"),
        first,                                                              // a repeat
        other.clone(),                                                      // another id
        Line { kind: "test.unheard.v1", ..line("a", 3, "") },               // not a kind of this handler
        Line { kind: SKIPPED, payload: String::new(), ..line("a", 4, "") }, // given up at home
        line("a", 5, "5"),
        line("b", 1, "!"),
        line("b", 2, "waits behind a dead letter"),
        line("c", 1, "panic"),
        Line { payload: "{".into(), ..line("d", 1, "") },
        line("e", 3, "never complete"),
        line("f", 2, "early"),
        line("f", 1, "late"),
    ];
    for line in &lines {
        log.write(line);
    }
    log.write_raw(None, "no key".into(), Vec::new());
    let inbox = Inbox::new(home.module.clone(), log.clone()).register(Sum).with(options());
    let tally = inbox.tally();
    world.spawn(|shutdown| inbox.run(shutdown));
    let dead = ["b the note shouts", "c the handler panicked"].map(String::from);
    until(true, async || Ok(kept(&home, Sum::NAME).await?.1.starts_with(&dead))).await?;
    until(Some(14), async || Ok(log.done_up_to())).await?;
    let (parked, dead) = kept(&home, Sum::NAME).await?;
    assert!(dead.len() == 3 && dead[2].starts_with("d the payload can't be decoded"), "{dead:?}");
    assert_eq!(parked, 2, "b2 and e3");
    let of = |verdict| tally.of(Sum::NAME, verdict);
    let found = [of("applied"), of("duplicate"), of("conflict"), of("ignored"), of("own"), of("awaiting")];
    assert_eq!(found, [5, 1, 1, 2, 0, 0]);
    assert_eq!(tally.settled(Sum::NAME) + 2 + 3, lines.len() as u64);
    let unreadable: i64 =
        sqlx::query_scalar("select count(*) from outbox.unreadable").fetch_one(&home.admin).await?;
    assert_eq!(unreadable, 1);
    let found = conflicts(&home).await?;
    assert_eq!(found, [("a2".into(), lines[1].id.to_string(), other.id.to_string())]);
    world.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replicas_verdicts_sum_up_too() -> Result<(), BoxError> {
    let mut world = World::new("copies").await?;
    let home = Home::new(world.stack, "copies", "test.notes").await?;
    for version in 1..=2 {
        assert_eq!(home.publish(&noted("own", "x")).await?, version);
    }
    let ids: Vec<uuid::Uuid> =
        sqlx::query_scalar("select id from outbox.event order by version").fetch_all(&home.admin).await?;
    let own = |version, id| Line { id, origin: "test.notes", ..line("own", version, "x") };
    let log = Scripted::default();
    let late = line("a", 1, "two owners, found out later");
    let lines = [
        own(1, ids[0]),
        own(2, ids[1]),
        line("a", 1, "1"),
        line("a", 2, "2"),
        late.clone(),
        Line { kind: SKIPPED, payload: String::new(), ..line("a", 3, "") },
        line("a", 4, "not on an unknown state"),
        Line { kind: "test.snapped.v1", ..line("a", 5, "whole") },
        line("a", 6, "6"),
        line("b", 7, "met in the middle"),
        line("c", 1, "1"),
        line("c", 3, "early"),
    ];
    for line in &lines {
        log.write(line);
    }
    let replica = Replica::new(home.module.clone(), log.clone(), "test.notes", Mirror).with(options());
    let tally = replica.tally();
    world.spawn(|shutdown| replica.run(shutdown));
    until(Some(11), async || Ok(log.done_up_to())).await?;
    let (parked, dead) = kept(&home, Mirror::NAME).await?;
    assert_eq!((parked, dead.len()), (1, 0));
    let of = |verdict| tally.of(Mirror::NAME, verdict);
    let found = [of("applied"), of("duplicate"), of("conflict"), of("ignored"), of("own"), of("awaiting")];
    assert_eq!(found, [6, 0, 1, 0, 1, 3]);
    assert_eq!(tally.settled(Mirror::NAME) + 1, lines.len() as u64);
    let effects = home.effects().await?;
    let of_a: Vec<&str> = effects.iter().filter_map(|e| e.strip_prefix("a:")).collect();
    assert_eq!(of_a, ["1:+", "2:+", "5:+", "6:+"], "nothing between the filler and the snapshot");
    let found = conflicts(&home).await?;
    assert_eq!(found, [("a1".into(), lines[2].id.to_string(), late.id.to_string())]);
    world.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_own_event_beyond_its_head_ends_a_plain_inbox_too() -> Result<(), BoxError> {
    let world = World::new("beyond").await?;
    let home = Home::new(world.stack, "beyond", "test.notes").await?;
    home.publish(&noted("a", "1")).await?;
    let id = sqlx::query_scalar("select id from outbox.event").fetch_one(&home.admin).await?;
    for batch in [1, 20] {
        let log = Scripted::default();
        log.write(&Line { id, origin: "test.notes", ..line("a", 1, "1") });
        // From before the database was restored.
        log.write(&Line { origin: "test.notes", ..line("a", 2, "2") });
        for other in 1..batch {
            log.write(&line(&format!("k{other}"), 1, "of another database: it has no head here"));
        }
        let running = Inbox::new(home.module.clone(), log).register(Sum).run(CancellationToken::new());
        let ended = tokio::time::timeout(Duration::from_secs(40), running).await?;
        assert!(matches!(ended, Err(Error::WentBack { head: 1, version: 2, .. })), "{ended:?}");
    }
    world.stop().await?;
    home.drop_now().await
}
