//! The schema: by sqlx or by hand, and brought up to date while all else runs.

use std::{
    collections::BTreeMap,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use outbox::{
    BoxError, Error, MIGRATOR, Relay,
    doctor::{self, Bounds},
    memory::Memory,
};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::world::{Home, NOTES, World, noted, until};

/// The last migration that a module's or a relay's role needs.
const CORE: i64 = 7;

/// One commit while the schema changes takes no longer than this, on a machine that does other things too.
const LATENCY_MAX: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn plain_sql_makes_the_same_schema() -> Result<(), BoxError> {
    let mut world = World::new("plainsql").await?;
    let database = world.stack.database("plainsql").await?;
    let mut files: Vec<_> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_, BoxError>>()?;
    files.sort();
    assert_eq!(files.len(), MIGRATOR.iter().count());
    for file in &files {
        let mut psql = Command::new("psql");
        psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "--single-transaction", "-f"]).arg(file);
        psql.arg(database.url()).stdin(Stdio::null()).kill_on_drop(true);
        let done =
            psql.output().await.map_err(|error| format!("psql is needed (postgresql-client): {error}"))?;
        assert!(done.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&done.stderr));
    }
    let home = Home::open(database, "test.notes").await?;
    home.publish(&noted("a", 1)).await?;
    let memory = Memory::new(1);
    let relay = Relay::new(home.relay.clone(), memory.sink());
    world.spawn(|shutdown| relay.run(shutdown));
    until(0, || home.pending()).await?;
    assert_eq!(memory.records(NOTES.name()).len(), 1);
    // Both ways lead to the same functions and tables.
    let other = Home::new(world.stack, "bysqlx", "test.notes").await?;
    assert_eq!(schema(&home).await?, schema(&other).await?);
    // Whoever goes over to sqlx notes what is there; from then on `migrate` does the rest.
    let refused = outbox::migrate(&home.admin).await;
    assert!(matches!(refused, Err(Error::Migrate(_))), "it is there already: {refused:?}");
    MIGRATOR.skip(&home.admin, None).await?;
    outbox::migrate(&home.admin).await?;
    assert_eq!(doctor::schema(&home.admin, &Bounds::default()).await?, []);
    world.stop().await?;
    other.drop_now().await?;
    home.drop_now().await
}

/// Every table, column, index and function, as text.
async fn schema(home: &Home) -> Result<Vec<String>, BoxError> {
    let all = "select c.relname || ' ' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull
               from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
               where c.relnamespace = 'outbox'::regnamespace and c.relname !~ '^_migrations'
               union all
               select pg_get_functiondef(p.oid) from pg_proc p where p.pronamespace = 'outbox'::regnamespace
               union all
               select t.relname || ' ' || pg_get_constraintdef(c.oid) from pg_constraint c join pg_class t on t.oid = c.conrelid
               where c.connamespace = 'outbox'::regnamespace and t.relname !~ '^_migrations'
               order by 1";
    Ok(sqlx::query_scalar(all).fetch_all(&home.admin).await?)
}

/// Publishes to a key of its own until told to stop; returns how many, and the slowest commit.
async fn publisher(
    home: Arc<Home>,
    key: String,
    count: Arc<AtomicI64>,
    stop: CancellationToken,
) -> Result<(i64, Duration), BoxError> {
    let (mut version, mut slowest) = (0, Duration::ZERO);
    while !stop.is_cancelled() {
        let begun = Instant::now();
        version += 1;
        assert_eq!(home.publish(&noted(&key, version)).await?, version);
        slowest = slowest.max(begun.elapsed());
        count.fetch_add(1, Ordering::SeqCst);
    }
    Ok((version, slowest))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_is_brought_up_to_date_while_all_else_runs() -> Result<(), BoxError> {
    let mut world = World::new("upgrade").await?;
    let database = world.stack.database("upgrade").await?;
    let owner = sqlx::PgPool::connect(database.url()).await?;
    MIGRATOR.run_to(CORE, &owner).await?;
    let home = Arc::new(Home::open(database, "test.notes").await?);
    let memory = Memory::new(3);
    let relay = Relay::new(home.relay.clone(), memory.sink());
    world.spawn(|shutdown| relay.run(shutdown));
    let (stop, count) = (CancellationToken::new(), Arc::new(AtomicI64::new(0)));
    let publishers: Vec<_> = (0..4)
        .map(|n| tokio::spawn(publisher(home.clone(), format!("key-{n}"), count.clone(), stop.clone())))
        .collect();
    let reached = async |more: i64| {
        let wanted = count.load(Ordering::SeqCst) + more;
        until(true, || async {
            Ok(count.load(Ordering::SeqCst) >= wanted || publishers.iter().any(|p| p.is_finished()))
        })
        .await
    };
    reached(200).await?;
    // Beside a transaction that has published and stays open for a while, as some do.
    let mut open = home.module.begin().await?;
    outbox::publish(&mut open, &noted("open", 1)).await?;
    let migrating = tokio::spawn(async move {
        outbox::migrate(&owner).await?;
        owner.close().await;
        Ok::<_, BoxError>(())
    });
    reached(200).await?;
    open.commit().await?;
    tokio::time::timeout(Duration::from_secs(60), migrating).await???;
    reached(200).await?;
    stop.cancel();
    let mut wanted = BTreeMap::from([("open".to_owned(), 1)]);
    for (n, publisher) in publishers.into_iter().enumerate() {
        let (versions, slowest) = publisher.await??;
        assert!(slowest < LATENCY_MAX, "a commit took {slowest:?}");
        wanted.insert(format!("key-{n}"), versions);
    }
    until(0, || home.pending()).await?;
    assert_eq!(doctor::schema(&home.admin, &Bounds::default()).await?, []);
    world.stop().await?;
    // Nothing is lost, doubled or out of order.
    let mut delivered: BTreeMap<String, i64> = BTreeMap::new();
    for record in memory.records(NOTES.name()) {
        let key = String::from_utf8(record.key.ok_or("a key")?)?;
        let version = record.headers.iter().find(|(name, _)| name == "banyan-version").ok_or("a version")?;
        let last = delivered.entry(key).or_default();
        assert_eq!(version.1.parse::<i64>()?, *last + 1);
        *last += 1;
    }
    assert_eq!(delivered, wanted);
    Arc::into_inner(home).ok_or("still in use")?.drop_now().await
}
