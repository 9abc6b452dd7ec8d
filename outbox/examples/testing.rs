//! Testing a module that publishes and handles: no Kafka, faults on demand, and an assertion about what a transaction publishes.
//!
//! `cargo run -p outbox --example testing`

mod place;

use std::time::Duration;

use outbox::{
    BoxError, Event, Handler, Inbox, Json, Received, Relay, Topic,
    memory::{Memory, Outage},
    publish,
    testing::{assert_published, assert_published_all},
};
use place::Place;
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgTransaction;
use tokio_util::sync::CancellationToken;

const ORDERS: Topic = Topic::new("orders.v1");

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct OrderPlaced {
    order: String,
}

impl Event for OrderPlaced {
    const TOPIC: Topic = ORDERS;
    const KIND: &'static str = "com.example.order_placed.v1";
    type Codec = Json;

    fn key(&self) -> &str {
        &self.order
    }
}

/// The use case under test.
async fn place_order(tx: &mut PgTransaction<'_>, order: &str, pieces: i64) -> Result<(), BoxError> {
    if pieces > 0 {
        publish(tx, &OrderPlaced { order: order.into() }).await?;
    }
    Ok(())
}

/// The handler under test.
struct Receipt;

impl Handler for Receipt {
    const NAME: &'static str = "receipts.write";
    type Event = OrderPlaced;

    async fn handle(&self, tx: &mut PgTransaction<'_>, event: Received<OrderPlaced>) -> Result<(), BoxError> {
        let write = "insert into shop.receipt (order_id) values ($1)";
        sqlx::query(write).bind(event.event.order).execute(&mut **tx).await?;
        Ok(())
    }
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), BoxError> {
    let mut place = Place::new("testing", &[ORDERS]).await?;
    sqlx::query("create table shop.receipt (order_id text primary key)").execute(&place.module).await?;

    // What does a transaction publish? Asked inside it, as the module's own role; nothing need be committed.
    let mut tx = place.module.begin().await?;
    place_order(&mut tx, "o-1", 0).await?;
    assert_published_all(&mut tx, &[]).await?;
    place_order(&mut tx, "o-1", 2).await?;
    assert_published(&mut tx, &[OrderPlaced { order: "o-1".into() }]).await?;
    tx.commit().await?;
    place.say("an order of no pieces publishes nothing, another one event");

    // The real relay and the real inbox, over a broker in memory that loses its reports: every record comes again and again.
    let broker = Memory::new(3);
    broker.outage(Outage::ReportsLost);
    let shutdown = CancellationToken::new();
    let relay = tokio::spawn(Relay::new(place.relay.clone(), broker.sink()).run(shutdown.clone()));
    let inbox = Inbox::new(place.module.clone(), broker.source("receipts")).register(Receipt);
    let inbox = tokio::spawn(inbox.run(shutdown.clone()));
    let repeated = async {
        while broker.records(ORDERS.name()).len() < 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        broker.outage(Outage::None);
        while sqlx::query_scalar::<_, i64>("select count(*) from outbox.pending")
            .fetch_one(&place.relay)
            .await?
            > 0
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok::<_, BoxError>(())
    };
    tokio::time::timeout(Duration::from_secs(60), repeated).await??;
    shutdown.cancel();
    relay.await??;
    inbox.await??;
    let receipts: i64 =
        sqlx::query_scalar("select count(*) from shop.receipt").fetch_one(&place.module).await?;
    place.say(format!("{receipts} receipt, whatever was repeated"));
    place
        .end(&[
            "an order of no pieces publishes nothing, another one event",
            "1 receipt, whatever was repeated",
        ])
        .await
}
