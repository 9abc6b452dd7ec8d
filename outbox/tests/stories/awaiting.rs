//! A replica's key that awaits a snapshot: none that came is forgotten, and an operator's word stands.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use outbox::{
    BoxError, InboxOptions, Incoming, MemoryRefill, Received, RefillOptions, Replica, StateTransfer, Tally,
    Topic, dead_letter,
};
use sqlx::postgres::PgTransaction;

use crate::{
    line::texts,
    scripted::{Line, Scripted, line},
    world::{Home, NOTES, World, effect, until},
};

/// A payload as it came.
struct Whole(String);

impl Incoming for Whole {
    const TOPIC: Topic = NOTES;

    fn decode(_: &str, payload: &[u8]) -> Option<Result<Self, BoxError>> {
        Some(Ok(Self(String::from_utf8_lossy(payload).into_owned())))
    }
}

/// Writes payloads down; refuses all while `shut`.
#[derive(Clone, Default)]
struct Twin {
    shut: Arc<AtomicBool>,
}

impl StateTransfer for Twin {
    const NAME: &'static str = "test.twin";
    type Event = Whole;

    fn is_snapshot(kind: &str) -> bool {
        kind == "test.snapped.v1"
    }

    async fn apply(&self, tx: &mut PgTransaction<'_>, event: Received<Whole>) -> Result<(), BoxError> {
        if self.shut.load(Ordering::SeqCst) {
            return Err("not yet".into());
        }
        effect(tx, &event.meta.key, event.meta.version, &event.event.0).await
    }
}

fn told(key: &str, version: i64) -> Line {
    Line { payload: version.to_string(), ..line(key, version, "") }
}

fn snapshot(key: &str, version: i64) -> Line {
    Line { kind: "test.snapped.v1", payload: "whole".into(), ..line(key, version, "") }
}

/// A replica that refuses all, and its log.
struct Scene {
    world: World,
    home: Home,
    log: Scripted,
    twin: Twin,
    tally: Tally,
}

impl Scene {
    async fn new(name: &str, options: InboxOptions, refill: MemoryRefill) -> Result<Self, BoxError> {
        let mut world = World::new(name).await?;
        let home = Home::new(world.stack, name, "test.follower").await?;
        let (log, twin) = (Scripted::default(), Twin::default());
        twin.shut.store(true, Ordering::SeqCst);
        let replica = Replica::new(home.module.clone(), log.clone(), "test.follower", twin.clone())
            .refill(Arc::new(refill))
            .with(InboxOptions {
                sweep_every: Duration::from_millis(20),
                retry_delay_min: Duration::from_millis(20),
                retry_delay_max: Duration::from_millis(100),
                refill: RefillOptions {
                    every: Duration::from_millis(20),
                    delay_min: Duration::from_millis(50),
                    delay_max: Duration::from_millis(200),
                    ..RefillOptions::default()
                },
                ..options
            });
        let tally = replica.tally();
        world.spawn(|shutdown| replica.run(shutdown));
        Ok(Self { world, home, log, twin, tally })
    }

    /// Waits until the replica has dealt with this record.
    async fn write(&self, line: &Line) -> Result<(), BoxError> {
        let offset = self.log.write(line);
        until(Some(offset), async || Ok(self.log.done_up_to())).await
    }

    async fn finds(&self, query: &'static str, wanted: &[&str]) -> Result<(), BoxError> {
        let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
        until(wanted, || texts(&self.home, query)).await
    }

    fn open(&self) {
        self.twin.shut.store(false, Ordering::SeqCst);
    }

    async fn end(self) -> Result<(), BoxError> {
        self.world.stop().await?;
        self.home.drop_now().await
    }
}

const EFFECTS: &str = "select key || ':' || version || ':' || text from public.effect order by key, n";
const AWAITING: &str = "select key from outbox.cursor where awaiting_snapshot";
const PARKED: &str = "select key || version || ' ' || reason from outbox.parked order by 1";

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_found_no_room_is_had_from_the_log() -> Result<(), BoxError> {
    let refill = MemoryRefill::default();
    let whole = snapshot("a", 4);
    refill.add(whole.message());
    let options = InboxOptions { parked_max: 1, attempts_max: 1_000, ..InboxOptions::default() };
    let scene = Scene::new("roomless", options, refill).await?;
    // It takes the only room.
    scene.write(&told("b", 1)).await?;
    scene.finds(PARKED, &["b1 refused"]).await?;
    scene.write(&told("a", 3)).await?;
    scene.finds(AWAITING, &["a"]).await?;
    scene.write(&whole).await?;
    scene.finds("select key || version || ' ' || events from outbox.overflow", &["a4 1"]).await?;
    scene.open();
    scene.finds(EFFECTS, &["a:4:whole", "b:1:1"]).await?;
    scene.finds(AWAITING, &[]).await?;
    scene.write(&told("a", 5)).await?;
    scene.finds(EFFECTS, &["a:4:whole", "a:5:5", "b:1:1"]).await?;
    scene.finds("select key from outbox.overflow", &[]).await?;
    until(4, async || Ok(scene.tally.settled(Twin::NAME))).await?;
    scene.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_version_of_a_key_that_awaits_waits_behind_its_snapshot() -> Result<(), BoxError> {
    let options = InboxOptions { attempts_max: 1_000, ..InboxOptions::default() };
    let scene = Scene::new("behind", options, MemoryRefill::default()).await?;
    scene.write(&told("a", 3)).await?;
    scene.write(&snapshot("a", 4)).await?;
    scene.finds(PARKED, &["a4 refused"]).await?;
    // Its turn by the count of versions, not by the state of the key.
    scene.write(&told("a", 1)).await?;
    scene.finds(PARKED, &["a1 early", "a4 refused"]).await?;
    scene.open();
    scene.finds(EFFECTS, &["a:4:whole"]).await?;
    scene.finds(PARKED, &[]).await?;
    until(3, async || Ok(scene.tally.settled(Twin::NAME))).await?;
    scene.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_snapshot_is_applied_though_the_original_comes_again() -> Result<(), BoxError> {
    let options = InboxOptions { attempts_max: 2, ..InboxOptions::default() };
    let scene = Scene::new("edited", options, MemoryRefill::default()).await?;
    let whole = snapshot("a", 4);
    scene.write(&told("a", 3)).await?;
    scene.write(&whole).await?;
    scene.finds("select key from outbox.dead_letter", &["a"]).await?;
    // Held back, so that the original comes again before the edited one is tried.
    let hold = "create function public.hold() returns trigger language plpgsql as $$
                begin new.retry_at := clock_timestamp() + interval '1 hour'; return new; end $$;
                create trigger hold before insert on outbox.parked for each row execute function public.hold()";
    sqlx::raw_sql(hold).execute(&scene.home.admin).await?;
    let letters = dead_letter::list(&scene.home.admin, &dead_letter::Filter::default(), None, 10).await?;
    let decode = &|_: &str, _: &[u8]| Ok(());
    let why = "the story wants it";
    assert!(
        dead_letter::edit_and_replay(&scene.home.admin, letters[0].id, b"better", decode, "ann", why).await?
    );
    scene.open();
    scene.write(&whole).await?;
    scene.finds(EFFECTS, &[]).await?;
    sqlx::query("update outbox.parked set retry_at = clock_timestamp()").execute(&scene.home.admin).await?;
    scene.finds(EFFECTS, &["a:4:better"]).await?;
    scene.finds(PARKED, &[]).await?;
    scene.end().await
}
