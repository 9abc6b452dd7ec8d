//! A cause that refuses every event of many keys: it fills what it may, stops nobody else, and is undone in one go.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use outbox::{
    BoxError, Handler, Inbox, InboxOptions, Incoming, MemoryRefill, Received, RefillOptions, Topic,
    dead_letter::{self, Filter},
};
use sqlx::postgres::PgTransaction;

use crate::{
    line::{Judge, texts},
    scripted::{Line, Scripted, line},
    world::{Home, NOTES, World, effect, until},
};

/// Takes whatever comes.
struct Easy;

struct Bytes;

impl Incoming for Bytes {
    const TOPIC: Topic = NOTES;

    fn decode(_: &str, _: &[u8]) -> Option<Result<Self, BoxError>> {
        Some(Ok(Self))
    }
}

impl Handler for Easy {
    const NAME: &'static str = "test.easy";
    type Event = Bytes;

    async fn handle(&self, tx: &mut PgTransaction<'_>, event: Received<Bytes>) -> Result<(), BoxError> {
        effect(tx, &event.meta.key, event.meta.version, "easy").await
    }
}

/// 600 keys whose note shouts, 400 whose note can't be read, 50 with a fine one, mixed.
fn lines() -> Vec<Line> {
    let of = |n: i32| match n % 21 {
        20 => line(&format!("fine{n}"), 1, "fine"),
        0..12 => line(&format!("loud{n}"), 1, "!"),
        _ => Line { payload: "{".into(), ..line(&format!("torn{n}"), 1, "") },
    };
    (0..1_050).map(of).collect()
}

const ROOM: i32 = 300;

fn options() -> InboxOptions {
    InboxOptions {
        attempts_max: 2,
        parked_max: ROOM,
        sweep_every: Duration::from_millis(20),
        retry_delay_min: Duration::from_millis(20),
        retry_delay_max: Duration::from_millis(100),
        refill: RefillOptions {
            every: Duration::from_millis(20),
            delay_min: Duration::from_millis(100),
            delay_max: Duration::from_millis(500),
            ..RefillOptions::default()
        },
        ..InboxOptions::default()
    }
}

async fn count(home: &Home, query: &'static str) -> Result<i64, BoxError> {
    Ok(sqlx::query_scalar(query).fetch_one(&home.admin).await?)
}

/// How much is kept, which must be within `bound`; each connection may find the last room at the same time.
async fn kept(home: &Home, bound: i32) -> Result<i64, BoxError> {
    let kept = "select (select count(*) from outbox.parked) + (select count(*) from outbox.dead_letter)";
    let (kept, bound) = (count(home, kept).await?, i64::from(bound) + 8);
    if kept > bound { Err(format!("{kept} rows are kept, {bound} are allowed").into()) } else { Ok(kept) }
}

/// What shouted is tried again, what can't be read is given up.
async fn operate(home: &Home) -> Result<(), BoxError> {
    let letters = dead_letter::list(&home.admin, &Filter::default(), None, 1_000).await?;
    let (torn, loud): (Vec<_>, Vec<_>) = letters.iter().partition(|letter| letter.key.starts_with("torn"));
    let ids = |letters: Vec<&dead_letter::Letter>| letters.iter().map(|letter| letter.id).collect::<Vec<_>>();
    dead_letter::discard(&home.admin, &ids(torn), "ann", "it can't be read").await?;
    dead_letter::replay(&home.admin, &ids(loud), "ann", "mended").await?;
    Ok(())
}

const DEAD: &str = "select count(*) from outbox.dead_letter";
const PARKED: &str = "select count(*) from outbox.parked";
const NOTED: &str = "select count(*) from public.effect where text <> 'easy'";

#[tokio::test(flavor = "multi_thread")]
async fn when_all_is_refused_the_room_holds_and_others_flow() -> Result<(), BoxError> {
    let mut world = World::new("mass").await?;
    let home = Home::new(world.stack, "mass", "test.notes").await?;
    let (log, refill) = (Scripted::default(), MemoryRefill::default());
    for line in lines() {
        log.write(&line);
        refill.add(line.message());
    }
    let judge = Judge { strict: Arc::new(AtomicBool::new(true)) };
    let inbox = Inbox::new(home.module.clone(), log.clone())
        .register(judge.clone())
        .register(Easy)
        .refill(Arc::new(refill))
        .with(options());
    let tally = inbox.tally();
    world.spawn(|shutdown| inbox.run(shutdown));
    until(Some(1_049), async || {
        kept(&home, ROOM).await?;
        Ok(log.done_up_to())
    })
    .await?;
    assert_eq!(tally.of(Easy::NAME, "applied"), 1_050, "another handler takes all");
    assert_eq!(count(&home, NOTED).await?, 50, "other keys go on");
    until(0, async || count(&home, PARKED).await).await?;
    let dead = kept(&home, ROOM).await?;
    assert!(dead >= i64::from(ROOM), "{dead} dead letters");
    let groups = dead_letter::groups(&home.admin, &Filter::default(), 10).await?;
    assert_eq!(groups.len(), 2, "two causes: {groups:?}");
    assert_eq!(groups.iter().map(|group| group.letters).sum::<i64>(), dead);
    let unkept = count(&home, "select coalesce(sum(events), 0)::bigint from outbox.overflow").await?;
    assert_eq!(dead + unkept, 1_000, "the rest is known by its versions");
    judge.strict.store(false, Ordering::SeqCst);
    until((0, 0, 0), async || {
        kept(&home, ROOM).await?;
        operate(&home).await?;
        let noted = "select count(*) from outbox.overflow";
        Ok((count(&home, DEAD).await?, count(&home, PARKED).await?, count(&home, noted).await?))
    })
    .await?;
    let twice = "select key from public.effect where text <> 'easy' group by key having count(*) > 1";
    assert!(texts(&home, twice).await?.is_empty());
    assert_eq!(count(&home, NOTED).await?, 650);
    assert_eq!((tally.of(Judge::NAME, "applied"), tally.settled(Judge::NAME)), (650, 1_050));
    world.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_is_refused_and_there_is_no_log_the_consumer_waits() -> Result<(), BoxError> {
    the_consumer_waits("nolog", ROOM, None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn when_there_is_no_room_for_versions_either_the_consumer_waits() -> Result<(), BoxError> {
    let refill = MemoryRefill::default();
    the_consumer_waits("versions", 30, Some(refill)).await
}

/// The handler refuses all until its consumer stops, in its bounds; when it is mended all goes on.
async fn the_consumer_waits(name: &str, room: i32, refill: Option<MemoryRefill>) -> Result<(), BoxError> {
    let mut world = World::new(name).await?;
    let home = Home::new(world.stack, name, "test.notes").await?;
    let log = Scripted::default();
    for line in lines() {
        log.write(&line);
        refill.iter().for_each(|refill| refill.add(line.message()));
    }
    let judge = Judge { strict: Arc::new(AtomicBool::new(true)) };
    let bounds = InboxOptions {
        parked_max: room,
        batch_max: 50,
        buffer_max: 100,
        hold_after: Duration::from_millis(100),
        outage_delay_max: Duration::from_millis(100),
        ..options()
    };
    let mut inbox = Inbox::new(home.module.clone(), log.clone()).register(judge.clone()).with(bounds);
    let noted_max = if refill.is_some() { i64::from(room) * 10 } else { 0 };
    if let Some(refill) = refill {
        inbox = inbox.refill(Arc::new(refill));
    }
    let tally = inbox.tally();
    world.spawn(|shutdown| inbox.run(shutdown));
    let noted = async || count(&home, "select count(*) from outbox.overflow").await;
    until((true, true, true), async || {
        let kept = kept(&home, room).await?;
        Ok((kept >= i64::from(room), noted().await? >= noted_max, log.is_held()))
    })
    .await?;
    assert!(noted().await? <= noted_max + 8);
    // Kept, noted, applied or in hand: nothing else was read.
    let read = i64::from(room) + 8 + noted_max + 8 + 50 + 100;
    let unread = i64::try_from(log.unread())?;
    assert!(unread >= 1_050 - read, "{unread} are not read");
    judge.strict.store(false, Ordering::SeqCst);
    until((0, 0, 0, Some(1_049)), async || {
        kept(&home, room).await?;
        operate(&home).await?;
        Ok((count(&home, DEAD).await?, count(&home, PARKED).await?, noted().await?, log.done_up_to()))
    })
    .await?;
    assert_eq!((tally.of(Judge::NAME, "applied"), tally.settled(Judge::NAME)), (650, 1_050));
    world.stop().await?;
    home.drop_now().await
}
