//! Keys whose stream has ended leave the hot tables, and are not forgotten.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use outbox::{BoxError, archive};
use uuid::Uuid;

use crate::{
    shelf::{ME, Shelf, WHY},
    world::{NOTES, Noted, until},
};

const NOW: Duration = Duration::ZERO;

async fn archive(shelf: &Shelf, keys: &[&str]) -> Result<u64, BoxError> {
    let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
    Ok(archive::keys(&shelf.operator, NOTES, &keys, NOW, ME, WHY).await?)
}

/// A home whose handler has applied two events of `a`, and whose key `a` is archived.
async fn archived(name: &str) -> Result<Shelf, BoxError> {
    let mut shelf = Shelf::new(name).await?;
    let memory = shelf.memory.clone();
    shelf.inbox(&memory);
    shelf.publish("a", 2).await?;
    shelf.relay();
    until(2, || async { Ok(shelf.home.effects().await?.len()) }).await?;
    until(0, || shelf.home.pending()).await?;
    assert_eq!(archive(&shelf, &["a"]).await?, 1);
    assert_eq!((shelf.count("outbox.head").await?, shelf.count("outbox.cursor").await?), (0, 0));
    Ok(shelf)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_duplicate_of_an_archived_key_is_a_duplicate() -> Result<(), BoxError> {
    let shelf = archived("latedup").await?;
    shelf.memory.redeliver("keep");
    // Its cursor comes back, because of the duplicates; nothing takes effect again.
    until(1, || shelf.count("outbox.cursor where version = 2 and waiting = 0")).await?;
    shelf.publish("b", 1).await?;
    until(["a:1:1", "a:2:2", "b:1:1"].map(String::from).to_vec(), || shelf.home.effects()).await?;
    assert_eq!(shelf.count("outbox.conflict").await?, 0);
    assert_eq!(shelf.count("outbox.parked").await?, 0);
    shelf.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archived_key_goes_on_with_its_next_version() -> Result<(), BoxError> {
    let shelf = archived("nextversion").await?;
    let mut tx = shelf.home.module.begin().await?;
    assert_eq!(outbox::head_version(&mut tx, NOTES, "a").await?, 2);
    outbox::publish(&mut tx, &crate::world::noted("beside", 1)).await?;
    let heads: Vec<i64> =
        sqlx::query_scalar("select outbox.head_versions('notes.v1', '{beside,a,never,beside}')")
            .fetch_one(&mut *tx)
            .await?;
    assert_eq!(heads, [1, 2, 0, 1], "in the order given");
    assert_eq!(outbox::lock(&mut tx, NOTES, "a").await?, 2);
    tx.rollback().await?;
    assert_eq!(shelf.count("outbox.archived_head").await?, 1);
    let progress = outbox::progress(&shelf.home.relay, "test.keep", NOTES, &["a".into()]).await?;
    assert_eq!(progress.versions.get("a"), Some(&2));
    assert_eq!(shelf.home.publish(&crate::world::noted("a", 3)).await?, 3);
    until(["a:1:1", "a:2:2", "a:3:3"].map(String::from).to_vec(), || shelf.home.effects()).await?;
    assert_eq!(shelf.count("outbox.archived_head").await?, 0);
    assert_eq!(shelf.count("outbox.chain('notes.v1', 'a')").await?, 3, "its history is whole");
    shelf.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_meets_the_archived_head() -> Result<(), BoxError> {
    for (version, own_id, followed, head) in
        [(1, false, false, 2), (2, true, true, 2), (2, false, false, 2), (4, false, true, 4)]
    {
        let shelf = archived(&format!("follow{version}{own_id}")).await?;
        let last: Uuid =
            sqlx::query_scalar("select last_id from outbox.archived_head").fetch_one(&shelf.operator).await?;
        let id = if own_id { last } else { Uuid::now_v7() };
        let mut tx = shelf.home.module.begin().await?;
        assert_eq!(outbox::follow(&mut tx, NOTES, "a", version, id).await?, followed, "{version} {own_id}");
        assert_eq!(outbox::head_version(&mut tx, NOTES, "a").await?, head);
        tx.commit().await?;
        assert_eq!(shelf.home.publish(&crate::world::noted("a", "next")).await?, head + 1);
        shelf.end().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_passes_over_versions_of_an_archived_key() -> Result<(), BoxError> {
    let shelf = archived("jumps").await?;
    let mut tx = shelf.home.module.begin().await?;
    for (version, jumped) in [(2_i64, false), (5, true)] {
        let done: bool = sqlx::query_scalar("select outbox.jump('test.keep', 'notes.v1', 'a', $1, $2)")
            .bind(version)
            .bind(Uuid::now_v7())
            .fetch_one(&mut *tx)
            .await?;
        assert_eq!(done, jumped, "{version}");
    }
    tx.rollback().await?;
    // At once, without the cursor in between.
    let jumped: bool = sqlx::query_scalar("select outbox.jump('test.keep', 'notes.v1', 'a', 5, $1)")
        .bind(Uuid::now_v7())
        .fetch_one(&shelf.home.module)
        .await?;
    assert!(jumped);
    assert_eq!(shelf.count("outbox.cursor where version = 5").await?, 1);
    shelf.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_at_rest_is_passed_over() -> Result<(), BoxError> {
    let mut shelf = Shelf::new("notatrest").await?;
    let memory = shelf.memory.clone();
    memory.refuse(|record| record.key == "refused");
    shelf.inbox(&memory);
    for key in ["done", "refused", "busy", "young", "behind", "waits"] {
        shelf.publish(key, 1).await?;
    }
    shelf.relay();
    until(5, || async { Ok(shelf.home.effects().await?.len()) }).await?;
    until(1, || shelf.home.pending()).await?;
    let tamper = "update outbox.cursor set version = 0 where key = 'behind';
                  update outbox.cursor set waiting = 1 where key = 'waits';
                  update outbox.event set created_at = now() + interval '1 hour' where key = 'young'";
    sqlx::raw_sql(tamper).execute(&shelf.home.admin).await?;
    let mut busy = shelf.home.module.begin().await?;
    outbox::lock(&mut busy, NOTES, "busy").await?;
    let all = ["done", "refused", "busy", "young", "behind", "waits", "unknown"];
    assert_eq!(archive(&shelf, &all).await?, 1);
    let left: Vec<String> =
        sqlx::query_scalar("select key from outbox.head order by key").fetch_all(&shelf.operator).await?;
    assert_eq!(left, ["behind", "busy", "refused", "waits", "young"]);
    busy.rollback().await?;
    assert_eq!(archive(&shelf, &all).await?, 1);
    shelf.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_snapshot_can_not_begin_an_archived_key_anew() -> Result<(), BoxError> {
    let shelf = Shelf::new("snapshots").await?;
    shelf.publish("a", 2).await?;
    sqlx::query("delete from outbox.pending").execute(&shelf.home.admin).await?;
    let mut old = shelf.home.module.begin().await?;
    sqlx::query("set transaction isolation level repeatable read").execute(&mut *old).await?;
    sqlx::query("select 1").execute(&mut *old).await?;
    assert_eq!(archive(&shelf, &["a"]).await?, 1);
    let refused = outbox::publish(&mut old, &crate::world::noted("a", 3)).await;
    let Err(outbox::Error::Database(error)) = refused else { return Err(format!("{refused:?}").into()) };
    assert_eq!(error.as_database_error().and_then(|e| e.code()).as_deref(), Some("40001"));
    drop(old);
    assert_eq!(shelf.home.publish(&crate::world::noted("a", 3)).await?, 3);
    shelf.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_waits_for_the_archiver_finds_the_head_again() -> Result<(), BoxError> {
    let shelf = Shelf::new("lockarchive").await?;
    shelf.publish("a", 2).await?;
    sqlx::query("delete from outbox.pending").execute(&shelf.home.admin).await?;
    // The archiver has the head, and has not moved it yet.
    let mut archiver = shelf.home.admin.begin().await?;
    sqlx::query("select from outbox.head where key = 'a' for update").execute(&mut *archiver).await?;
    let module = shelf.home.module.clone();
    let locking = tokio::spawn(async move {
        let mut tx = module.begin().await?;
        let version = outbox::lock(&mut tx, NOTES, "a").await?;
        let next = outbox::publish(&mut tx, &crate::world::noted("a", 3)).await?;
        tx.commit().await?;
        Ok::<_, outbox::Error>((version, next))
    });
    let waiting = "pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
    until(1, || shelf.count(waiting)).await?;
    let archive = "select outbox.archive_keys('notes.v1', '{a}', '0', 'ann', 'the story wants it')";
    assert_eq!(sqlx::query_scalar::<_, i32>(archive).fetch_one(&mut *archiver).await?, 1);
    archiver.commit().await?;
    assert_eq!(locking.await??, (2, 3));
    shelf.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn ended_keys_are_found_by_the_kind_of_their_last_event() -> Result<(), BoxError> {
    let shelf = Shelf::new("endedkeys").await?;
    for key in ["a", "b", "c"] {
        shelf.publish(key, 2).await?;
    }
    let kind = "update outbox.event set kind = 'test.closed.v1' where key <> 'c' and version = 2";
    sqlx::query(kind).execute(&shelf.home.admin).await?;
    shelf.publish("b", 1).await?;
    sqlx::query("delete from outbox.pending").execute(&shelf.home.admin).await?;
    let sweep =
        |quiet, after| archive::ended(&shelf.operator, NOTES, &["test.closed.v1"], quiet, after, (ME, WHY));
    let young = sweep(Duration::from_secs(3600), 0).await?;
    assert_eq!((young.archived, young.position), (0, 0), "all are too young");
    let last: i64 =
        sqlx::query_scalar("select max(position) from outbox.event").fetch_one(&shelf.operator).await?;
    let swept = sweep(NOW, 0).await?;
    assert_eq!((swept.archived, swept.position), (1, last));
    assert_eq!(shelf.count("outbox.archived_head where key = 'a'").await?, 1);
    assert_eq!(sweep(NOW, swept.position).await?.archived, 0);
    shelf.end().await
}

/// Writers, a relay, an inbox and an archiver that is never quiet.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn versions_stay_dense_while_keys_are_archived() -> Result<(), BoxError> {
    const KEYS: usize = 12;
    const EACH: i64 = 30;
    const KEYS_AT_REST: u64 = 12;
    let mut shelf = Shelf::new("dense").await?;
    let memory = shelf.memory.clone();
    shelf.inbox(&memory);
    shelf.relay();
    let keys: Vec<String> = (0..KEYS).map(|n| format!("k{n}")).collect();
    let over = Arc::new(AtomicBool::new(false));
    let archived = Arc::new(AtomicU64::new(0));
    let archiver = {
        let (pool, keys, over, archived) =
            (shelf.operator.clone(), keys.clone(), over.clone(), archived.clone());
        tokio::spawn(async move {
            while !over.load(Ordering::SeqCst) {
                let moved = archive::keys(&pool, NOTES, &keys, NOW, ME, WHY).await?;
                archived.fetch_add(moved, Ordering::SeqCst);
            }
            Ok::<_, outbox::Error>(())
        })
    };
    let writers = keys.iter().flat_map(|key| [key.clone(), key.clone()]).map(|key| {
        let (pool, archived) = (shelf.home.module.clone(), archived.clone());
        tokio::spawn(async move {
            for n in 0..EACH / 2 {
                if n == EACH / 4 {
                    // However slow the machine is: some keys were at rest in the middle.
                    until(true, async || Ok(archived.load(Ordering::SeqCst) >= KEYS_AT_REST)).await?;
                }
                let mut tx = pool.begin().await?;
                outbox::publish(&mut tx, &Noted { key: key.clone(), text: n.to_string() }).await?;
                tx.commit().await?;
                // The archiver's turn, now and then.
                tokio::time::sleep(Duration::from_millis(u64::try_from(n % 4)? * 5)).await;
            }
            Ok::<_, BoxError>(())
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await??;
    }
    let total = usize::try_from(EACH)? * KEYS;
    until(total, || async { Ok(shelf.home.effects().await?.len()) }).await?;
    until(0, || shelf.home.pending()).await?;
    memory.redeliver("keep");
    shelf.publish("last", 1).await?;
    until(total + 1, || async { Ok(shelf.home.effects().await?.len()) }).await?;
    until(true, async || Ok(archived.load(Ordering::SeqCst) > KEYS_AT_REST)).await?;
    over.store(true, Ordering::SeqCst);
    archiver.await??;
    assert_dense(&shelf.home.effects().await?, EACH)?;
    let inverted = "outbox.event a join outbox.event b on a.key = b.key and a.version < b.version and a.position > b.position";
    assert_eq!(shelf.count(inverted).await?, 0, "positions rise with versions");
    assert_eq!(
        shelf.count("(select from outbox.event group by key, version having count(*) > 1) twice").await?,
        0
    );
    assert_eq!(shelf.count("outbox.conflict").await?, 0);
    shelf.end().await
}

/// Effects of each key: versions 1, 2, 3 .. once each, in order.
fn assert_dense(effects: &[String], each: i64) -> Result<(), BoxError> {
    let mut last: BTreeMap<&str, i64> = BTreeMap::new();
    for effect in effects.iter().filter(|effect| effect.starts_with('k')) {
        let mut parts = effect.split(':');
        let (key, version) =
            (parts.next().unwrap_or_default(), parts.next().unwrap_or_default().parse::<i64>()?);
        let at = last.entry(key).or_default();
        assert_eq!(version, *at + 1, "{effect}");
        *at = version;
    }
    assert!(last.values().all(|version| *version == each), "{last:?}");
    Ok(())
}
