//! A replica: another home follows the state of keys, may be started in the middle by a snapshot, and counts on when it becomes
//! the owner.
//!
//! `cargo run -p outbox --example replica`

mod place;

use std::time::Duration;

use outbox::{
    BoxError, Event, Incoming, Json, Received, Relay, Replica, StateTransfer, Topic, lock, memory::Memory,
    publish,
};
use place::Place;
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, postgres::PgTransaction};
use tokio_util::sync::CancellationToken;

const STOCK: Topic = Topic::new("stock.v1");

/// A change.
#[derive(Serialize, Deserialize)]
struct Moved {
    item: String,
    pieces: i64,
}

impl Event for Moved {
    const TOPIC: Topic = STOCK;
    const KIND: &'static str = "com.example.moved.v1";
    type Codec = Json;

    fn key(&self) -> &str {
        &self.item
    }
}

/// The whole state of an item.
#[derive(Serialize, Deserialize)]
struct Counted {
    item: String,
    pieces: i64,
}

impl Event for Counted {
    const TOPIC: Topic = STOCK;
    const KIND: &'static str = "com.example.counted.v1";
    type Codec = Json;

    fn key(&self) -> &str {
        &self.item
    }
}

/// All kinds of the stream: a replica must know each.
enum Stock {
    Moved(Moved),
    Counted(Counted),
}

impl Incoming for Stock {
    const TOPIC: Topic = STOCK;

    fn decode(kind: &str, payload: &[u8]) -> Option<Result<Self, BoxError>> {
        match kind {
            Moved::KIND => <Moved as Incoming>::decode(kind, payload).map(|event| event.map(Self::Moved)),
            Counted::KIND => {
                <Counted as Incoming>::decode(kind, payload).map(|event| event.map(Self::Counted))
            }
            _ => None,
        }
    }
}

struct Follow;

impl StateTransfer for Follow {
    const NAME: &'static str = "warehouse.replica";
    type Event = Stock;

    fn is_snapshot(kind: &str) -> bool {
        kind == Counted::KIND
    }

    async fn apply(&self, tx: &mut PgTransaction<'_>, event: Received<Stock>) -> Result<(), BoxError> {
        let (item, pieces, whole) = match event.event {
            Stock::Moved(moved) => (moved.item, moved.pieces, false),
            Stock::Counted(counted) => (counted.item, counted.pieces, true),
        };
        sqlx::query(
            "insert into shop.stock as s (item, pieces) values ($1, $2)
             on conflict (item) do update set pieces = excluded.pieces + case when $3 then 0 else s.pieces end",
        )
        .bind(item)
        .bind(pieces)
        .bind(whole)
        .execute(&mut **tx)
        .await?;
        Ok(())
    }
}

async fn pieces(pool: &PgPool, wanted: i64) -> Result<(), BoxError> {
    let there = async {
        let query = "select count(*) from shop.stock where item = 'screws' and pieces = $1";
        while sqlx::query_scalar::<_, i64>(query).bind(wanted).fetch_one(pool).await? == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    };
    tokio::time::timeout(Duration::from_secs(60), there).await?
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), BoxError> {
    let mut owner = Place::new("owner", &[STOCK]).await?;
    let follower = Place::new("follower", &[STOCK]).await?;
    let table = "create table shop.stock (item text primary key, pieces bigint not null)";
    sqlx::query(table).execute(&owner.module).await?;
    sqlx::query(table).execute(&follower.module).await?;

    // A broker in memory will do here; with Kafka, sink and source come from `outbox::kafka`.
    let broker = Memory::new(3);
    let shutdown = CancellationToken::new();
    let relay = tokio::spawn(Relay::new(owner.relay.clone(), broker.sink()).run(shutdown.clone()));
    // Each home names the origin it publishes as, so that it knows its own events again.
    let replica = Replica::new(follower.module.clone(), broker.source("replica"), "shop.follower", Follow);
    let replica = tokio::spawn(replica.run(shutdown.clone()));

    // Changes first; then a snapshot: lock the head, read the state in a later statement, publish it.
    for pieces in [100, -30] {
        let mut tx = owner.module.begin().await?;
        sqlx::query("insert into shop.stock as s values ('screws', $1) on conflict (item) do update set pieces = s.pieces + $1")
            .bind(pieces)
            .execute(&mut *tx)
            .await?;
        publish(&mut tx, &Moved { item: "screws".into(), pieces }).await?;
        tx.commit().await?;
    }
    pieces(&follower.module, 70).await?;
    owner.say("the follower has 70 screws");
    let mut tx = owner.module.begin().await?;
    lock(&mut tx, STOCK, "screws").await?;
    let whole =
        sqlx::query_scalar("select pieces from shop.stock where item = 'screws'").fetch_one(&mut *tx).await?;
    let version = publish(&mut tx, &Counted { item: "screws".into(), pieces: whole }).await?;
    tx.commit().await?;
    owner.say(format!("version {version} carries the whole state: {whole}"));

    // Whoever becomes the owner goes on counting where the stream is.
    let followed = async {
        loop {
            let mut tx = follower.module.begin().await?;
            if lock(&mut tx, STOCK, "screws").await? == version {
                let next = publish(&mut tx, &Moved { item: "screws".into(), pieces: 1 }).await?;
                tx.commit().await?;
                return Ok::<_, BoxError>(next);
            }
            tx.rollback().await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let next = tokio::time::timeout(Duration::from_secs(60), followed).await??;
    owner.say(format!("the follower goes on with version {next}"));

    shutdown.cancel();
    relay.await??;
    replica.await??;
    follower.end(&[]).await?;
    owner
        .end(&[
            "the follower has 70 screws",
            "version 3 carries the whole state: 70",
            "the follower goes on with version 4",
        ])
        .await
}
