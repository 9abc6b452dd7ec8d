//! What the outbox's own stories publish and handle: numbered notes.

use std::time::Duration;

use anyhow::Result;
use outbox::{BoxError, Event, Handler, Inbox, Json, Received, Topic, kafka};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use sqlx::postgres::PgTransaction;
use stack::Stack;
use tests::kafka::Record;
use tests::{Post, World, until};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long anything in these stories may take.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// The topic of notes.
pub(crate) const NOTES: Topic = Topic::new("notes.v1");

/// An event with a number in it and as much text as wanted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Noted {
    pub(crate) key: String,
    pub(crate) number: i64,
    pub(crate) text: String,
}

impl Noted {
    pub(crate) fn new(key: &str, number: i64) -> Self {
        Self { key: key.to_owned(), number, text: String::new() }
    }
}

impl Event for Noted {
    const TOPIC: Topic = NOTES;
    const KIND: &'static str = "com.banyan.tests.noted.v1";
    type Codec = Json;

    fn key(&self) -> &str {
        &self.key
    }
}

/// Counts what it applied, in a table without any uniqueness: a second time would show.
pub(crate) struct Count;

impl Handler for Count {
    const NAME: &'static str = "tests.count";
    type Event = Noted;

    async fn handle(&self, tx: &mut PgTransaction<'_>, event: Received<Noted>) -> Result<(), BoxError> {
        sqlx::query("insert into effect (key, version) values ($1, $2)")
            .bind(event.meta.key)
            .bind(event.meta.version)
            .execute(&mut **tx)
            .await?;
        Ok(())
    }
}

/// An outbox with the topic of notes and a table for [`Count`].
pub(crate) async fn post(world: &World, stack: &Stack) -> Result<Post> {
    let post = Post::open(world, stack, "notes", &[NOTES]).await?;
    Post::topics(world, &[NOTES], 4).await?;
    effects_table(&post).await?;
    Ok(post)
}

/// The table of effects, writable by the module.
pub(crate) async fn effects_table(post: &Post) -> Result<()> {
    sqlx::query("create table effect (n bigint generated always as identity, key text, version bigint)")
        .execute(&post.admin)
        .await?;
    sqlx::query("grant insert, select on effect to public").execute(&post.admin).await?;
    Ok(())
}

/// Publishes one note in a transaction of its own.
pub(crate) async fn publish(pool: &PgPool, note: &Noted) -> Result<i64> {
    let mut tx = pool.begin().await?;
    let version = outbox::publish(&mut tx, note).await?;
    tx.commit().await?;
    Ok(version)
}

/// An inbox with [`Count`], running until the token is cancelled.
pub(crate) fn count(
    world: &World,
    post: &Post,
    shutdown: &CancellationToken,
) -> Result<JoinHandle<Result<(), outbox::Error>>> {
    let source = kafka::source(&world.kafka().transport("tests"), "counter")?;
    Ok(tokio::spawn(Inbox::new(post.module.clone(), source).register(Count).run(shutdown.clone())))
}

/// All effects in the order they happened: key and version.
pub(crate) async fn effects(post: &Post) -> Result<Vec<(String, i64)>> {
    Ok(sqlx::query_as("select key, version from effect order by n").fetch_all(&post.admin).await?)
}

/// Waits for this many effects.
pub(crate) async fn until_effects(post: &Post, wanted: usize) -> Result<Vec<(String, i64)>> {
    until(&format!("{wanted} effects"), SOON, async || {
        let effects = effects(post).await?;
        Ok((effects.len() >= wanted).then_some(effects))
    })
    .await
}

/// Waits until nothing is pending.
pub(crate) async fn until_delivered(post: &Post) -> Result<()> {
    until("nothing pending", SOON, async || Ok((post.pending().await? == 0).then_some(()))).await
}

/// The versions of a key in the topic in the order of their first deliveries. Repeats are allowed, above all while a bucket
/// goes from one relay to another.
pub(crate) fn first_deliveries(records: &[Record], key: &str) -> Vec<i64> {
    let mut seen = std::collections::BTreeSet::new();
    versions(records, key).into_iter().filter(|version| seen.insert(*version)).collect()
}

/// The versions of a key in the topic, repeats included.
pub(crate) fn versions(records: &[Record], key: &str) -> Vec<i64> {
    records.iter().filter(|record| record.key == key).map(Record::version).collect()
}
