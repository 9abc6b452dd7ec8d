//! Following another home's state.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use outbox::{BoxError, Error, InboxOptions, Received, Replica, StateTransfer, kafka};
use sqlx::postgres::PgTransaction;
use tokio::sync::Barrier;

use crate::world::{Home, Noted, Snapped, Stream, World, effect, noted, until};

/// Follows; refuses all while `shut`.
#[derive(Clone, Default)]
struct Follow {
    shut: Arc<AtomicBool>,
}

impl StateTransfer for Follow {
    const NAME: &'static str = "test.follow";
    type Event = Stream;

    fn is_snapshot(kind: &str) -> bool {
        kind == "test.snapped.v1"
    }

    async fn apply(&self, tx: &mut PgTransaction<'_>, event: Received<Stream>) -> Result<(), BoxError> {
        if self.shut.load(Ordering::SeqCst) {
            return Err("not yet".into());
        }
        let text = match event.event {
            Stream::Noted(noted) => noted.text,
            Stream::Snapped(snapped) => format!("whole {}", snapped.text),
        };
        effect(tx, &event.meta.key, event.meta.version, &text).await
    }
}

/// The program before there were snapshots.
struct Older;

impl StateTransfer for Older {
    const NAME: &'static str = Follow::NAME;
    type Event = Noted;

    fn is_snapshot(_: &str) -> bool {
        false
    }

    async fn apply(&self, tx: &mut PgTransaction<'_>, event: Received<Noted>) -> Result<(), BoxError> {
        effect(tx, &event.meta.key, event.meta.version, &event.event.text).await
    }
}

fn snapped(key: &str, text: &str) -> Snapped {
    Snapped { key: key.into(), text: text.into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_starts_a_key_that_was_met_in_the_middle() -> Result<(), BoxError> {
    let mut world = World::new("snapshot").await?;
    let owner = Home::new(world.stack, "owner", "test.owner").await?;
    let follower = Home::new(world.stack, "follower", "test.follower").await?;
    for text in ["1", "2", "3"] {
        owner.publish(&noted("a", text)).await?;
    }
    // The log begins at version 3: the first two are older than its retention.
    sqlx::query("delete from outbox.pending where previous is null or position = 2")
        .execute(&owner.admin)
        .await?;
    world.relay(&owner)?;
    let source = kafka::source(&world.kafka, "replica")?;
    let replica = Replica::new(follower.module.clone(), source, "test.follower", Follow::default());
    world.spawn(|shutdown| replica.run(shutdown));
    let awaiting = || async {
        let query = "select awaiting_snapshot from outbox.cursor where key = 'a' and version = 0";
        Ok(sqlx::query_scalar::<_, bool>(query).fetch_optional(&follower.admin).await?)
    };
    until(Some(true), awaiting).await?;
    assert!(follower.effects().await?.is_empty(), "nothing is applied on an unknown state");
    owner.publish(&snapped("a", "1-3")).await?;
    owner.publish(&noted("a", "5")).await?;
    until(vec!["a:4:whole 1-3".to_owned(), "a:5:5".into()], || follower.effects()).await?;
    // Whoever becomes owner goes on counting.
    assert_eq!(follower.publish(&noted("a", "6")).await?, 6);
    world.stop().await?;
    owner.drop_now().await?;
    follower.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_of_a_later_version_waits_for_that_and_uses_up_no_attempt() -> Result<(), BoxError> {
    let mut world = World::new("older").await?;
    let owner = Home::new(world.stack, "olderowner", "test.owner").await?;
    let follower = Home::new(world.stack, "older", "test.follower").await?;
    owner.publish(&noted("a", "1")).await?;
    owner.publish(&snapped("a", "1")).await?;
    owner.publish(&noted("a", "3")).await?;
    world.relay(&owner)?;
    let delay = std::time::Duration::from_millis(20);
    let options = InboxOptions {
        attempts_max: 2,
        sweep_every: delay,
        retry_delay_min: delay,
        retry_delay_max: delay,
        ..InboxOptions::default()
    };
    let stop = tokio_util::sync::CancellationToken::new();
    let source = kafka::source(&world.kafka, "replica")?;
    let older = Replica::new(follower.module.clone(), source, "test.follower", Older).with(options.clone());
    let running = tokio::spawn(older.run(stop.clone()));
    let waits = || async {
        let query = "select reason, attempts, tries > 4 from outbox.parked where key = 'a' and version = 2";
        Ok(sqlx::query_as::<_, (String, i32, bool)>(query).fetch_optional(&follower.admin).await?)
    };
    until(Some(("failed".to_owned(), 0, true)), waits).await?;
    let letters = "select count(*) from outbox.dead_letter";
    assert_eq!(sqlx::query_scalar::<_, i64>(letters).fetch_one(&follower.admin).await?, 0);
    assert_eq!(follower.effects().await?, ["a:1:1"]);
    stop.cancel();
    running.await??;

    let source = kafka::source(&world.kafka, "replica")?;
    let newer = Replica::new(follower.module.clone(), source, "test.follower", Follow::default());
    let newer = newer.with(options);
    world.spawn(|shutdown| newer.run(shutdown));
    let all = vec!["a:1:1".to_owned(), "a:2:whole 1".into(), "a:3:3".into()];
    until(all, || follower.effects()).await?;
    world.stop().await?;
    owner.drop_now().await?;
    follower.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_went_back_in_time_is_noticed() -> Result<(), BoxError> {
    let mut world = World::new("wentback").await?;
    let home = Home::new(world.stack, "wentback", "test.home").await?;
    let restored = Home::new(world.stack, "restored", "test.home").await?;
    home.publish(&noted("a", "1")).await?;
    home.publish(&noted("a", "2")).await?;
    world.relay(&home)?;
    until(0, || home.pending()).await?;
    // The same home, from a backup that is older than what it had published.
    restored.publish(&noted("a", "1")).await?;
    let source = kafka::source(&world.kafka, "replica")?;
    let replica = Replica::new(restored.module.clone(), source, "test.home", Follow::default());
    let ended = replica.run(tokio_util::sync::CancellationToken::new()).await;
    assert!(matches!(ended, Err(Error::WentBack { head: 1, version: 2, .. })), "{ended:?}");
    world.stop().await?;
    home.drop_now().await?;
    restored.drop_now().await
}

/// Keys of the next story.
const KEYS: i64 = 40;

#[tokio::test(flavor = "multi_thread")]
async fn what_its_home_wrote_itself_moves_cursors_many_at_a_time() -> Result<(), BoxError> {
    let mut world = World::new("own").await?;
    let home = Home::new(world.stack, "ownhome", "test.home").await?;
    world.relay(&home)?;
    let at = |version: i64| {
        let sql = "select count(*) from outbox.cursor where handler = 'test.follow' and version = $1";
        let (admin, asked) = (home.admin.clone(), sqlx::query_scalar::<_, i64>(sql).bind(version));
        async move { Ok(asked.fetch_one(&admin).await?) }
    };
    for (until_version, text) in [(1, ["1"].as_slice()), (3, &["2", "3"])] {
        for key in 0..KEYS {
            for text in text {
                home.publish(&noted(&format!("k{key}"), text)).await?;
            }
        }
        until(0, || home.pending()).await?;
        let stop = tokio_util::sync::CancellationToken::new();
        let source = kafka::source(&world.kafka, "replica")?;
        let replica = Replica::new(home.module.clone(), source, "test.home", Follow::default());
        let running = tokio::spawn(replica.run(stop.clone()));
        until(KEYS, || at(until_version)).await?;
        stop.cancel();
        running.await??;
    }
    assert_eq!(home.effects().await?.len(), usize::try_from(KEYS)?, "only the openings were applied");
    let sql = "select count(distinct xmin::text) from outbox.cursor where handler = 'test.follow'";
    let transactions: i64 = sqlx::query_scalar(sql).fetch_one(&home.admin).await?;
    assert!(transactions <= KEYS / 2, "{transactions} transactions for {KEYS} keys");
    world.stop().await?;
    home.drop_now().await
}

/// Applies nothing before as many as its barrier asks for are at it.
struct Meet(Barrier);

impl StateTransfer for Meet {
    const NAME: &'static str = "test.meet";
    type Event = Noted;

    fn is_snapshot(_: &str) -> bool {
        false
    }

    async fn apply(&self, tx: &mut PgTransaction<'_>, event: Received<Noted>) -> Result<(), BoxError> {
        self.0.wait().await;
        effect(tx, &event.meta.key, event.meta.version, &event.event.text).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_another_home_that_wait_together_are_applied_side_by_side() -> Result<(), BoxError> {
    let mut world = World::new("meeting").await?;
    let owner = Home::new(world.stack, "meetowner", "test.owner").await?;
    let follower = Home::new(world.stack, "meeting", "test.follower").await?;
    let keys = ["a", "b", "c", "d", "e", "f", "g", "h"];
    for key in keys {
        owner.publish(&noted(key, "1")).await?;
    }
    world.relay(&owner)?;
    // All are there when the replica begins: one look takes the first of them, and the next one the rest.
    until(0, || owner.pending()).await?;
    let source = kafka::source(&world.kafka, "replica")?;
    let meet = Meet(Barrier::new(keys.len() / 2));
    let replica = Replica::new(follower.module.clone(), source, "test.follower", meet);
    world.spawn(|shutdown| replica.run(shutdown));
    let applied = || async {
        let mut effects = follower.effects().await?;
        effects.sort();
        Ok(effects)
    };
    until(keys.map(|key| format!("{key}:1:1")).to_vec(), applied).await?;
    world.stop().await?;
    owner.drop_now().await?;
    follower.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_behind_a_refused_opening_is_kept() -> Result<(), BoxError> {
    let mut world = World::new("opening").await?;
    let owner = Home::new(world.stack, "opener", "test.owner").await?;
    let follower = Home::new(world.stack, "late", "test.follower").await?;
    for text in ["1", "2", "3"] {
        owner.publish(&noted("a", text)).await?;
    }
    world.relay(&owner)?;
    let follow = Follow::default();
    follow.shut.store(true, Ordering::SeqCst);
    let options =
        InboxOptions { retry_delay_max: std::time::Duration::from_millis(500), ..InboxOptions::default() };
    let source = kafka::source(&world.kafka, "replica")?;
    let replica =
        Replica::new(follower.module.clone(), source, "test.follower", follow.clone()).with(options);
    world.spawn(|shutdown| replica.run(shutdown));
    let parked = || async {
        Ok(sqlx::query_scalar::<_, i64>("select count(*) from outbox.parked")
            .fetch_one(&follower.admin)
            .await?)
    };
    until(3, parked).await?;
    follow.shut.store(false, Ordering::SeqCst);
    until(vec!["a:1:1".to_owned(), "a:2:2".into(), "a:3:3".into()], || follower.effects()).await?;
    until(0, parked).await?;
    world.stop().await?;
    owner.drop_now().await?;
    follower.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_a_snapshot_passes_over_is_kept_in_the_audit() -> Result<(), BoxError> {
    let mut world = World::new("passed").await?;
    let owner = Home::new(world.stack, "passer", "test.owner").await?;
    let follower = Home::new(world.stack, "passed", "test.follower").await?;
    world.relay(&owner)?;
    let follow = Follow::default();
    let source = kafka::source(&world.kafka, "replica")?;
    let replica = Replica::new(follower.module.clone(), source, "test.follower", follow.clone())
        .with(InboxOptions { attempts_max: 1, ..InboxOptions::default() });
    world.spawn(|shutdown| replica.run(shutdown));
    owner.publish(&noted("a", "1")).await?;
    until(vec!["a:1:1".to_owned()], || follower.effects()).await?;
    follow.shut.store(true, Ordering::SeqCst);
    owner.publish(&noted("a", "2")).await?;
    let letters = || async {
        let query = "select version from outbox.dead_letter";
        Ok(sqlx::query_scalar::<_, i64>(query).fetch_all(&follower.admin).await?)
    };
    until(vec![2], letters).await?;
    follow.shut.store(false, Ordering::SeqCst);
    owner.publish(&snapped("a", "1-2")).await?;
    until(vec!["a:1:1".to_owned(), "a:3:whole 1-2".into()], || follower.effects()).await?;
    assert_eq!(letters().await?, [0; 0]);
    let kept = "select a.actor || ' ' || a.action || ' ' || (a.subject ->> 'version') || ' ' || convert_from(o.payload, 'UTF8')
                from outbox.audit a join outbox.audit_original o on o.audit = a.id";
    let kept: Vec<String> = sqlx::query_scalar(kept).fetch_all(&follower.admin).await?;
    assert_eq!(kept, [r#"inbox pass_over_dead_letter 2 {"key":"a","text":"2"}"#]);
    world.stop().await?;
    owner.drop_now().await?;
    follower.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_behind_a_refused_snapshot_is_kept() -> Result<(), BoxError> {
    let mut world = World::new("refusedsnap").await?;
    let owner = Home::new(world.stack, "snapper", "test.owner").await?;
    let follower = Home::new(world.stack, "shutter", "test.follower").await?;
    for text in ["1", "2", "3"] {
        owner.publish(&noted("a", text)).await?;
    }
    // The log begins at version 3.
    sqlx::query("delete from outbox.pending where previous is null or position = 2")
        .execute(&owner.admin)
        .await?;
    world.relay(&owner)?;
    let follow = Follow::default();
    let options =
        InboxOptions { retry_delay_max: std::time::Duration::from_millis(500), ..InboxOptions::default() };
    let source = kafka::source(&world.kafka, "replica")?;
    let replica =
        Replica::new(follower.module.clone(), source, "test.follower", follow.clone()).with(options);
    world.spawn(|shutdown| replica.run(shutdown));
    let count = |query: &'static str| {
        let admin = follower.admin.clone();
        async move { Ok(sqlx::query_scalar::<_, i64>(query).fetch_one(&admin).await?) }
    };
    until(1, || count("select count(*) from outbox.cursor where awaiting_snapshot")).await?;
    follow.shut.store(true, Ordering::SeqCst);
    owner.publish(&snapped("a", "1-3")).await?;
    until(1, || count("select count(*) from outbox.parked")).await?;
    // The snapshot does not have this one's effect.
    owner.publish(&noted("a", "5")).await?;
    until(2, || count("select count(*) from outbox.parked")).await?;
    follow.shut.store(false, Ordering::SeqCst);
    until(vec!["a:4:whole 1-3".to_owned(), "a:5:5".into()], || follower.effects()).await?;
    world.stop().await?;
    owner.drop_now().await?;
    follower.drop_now().await
}
