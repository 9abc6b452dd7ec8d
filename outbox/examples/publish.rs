//! Publishing: an event is part of the transaction that makes it true.
//!
//! `cargo run -p outbox --example publish`

mod place;

use outbox::{BoxError, Event, Headers, Json, Topic, publish, publish_all};
use place::Place;
use serde::{Deserialize, Serialize};

const ORDERS: Topic = Topic::new("orders.v1");

#[derive(Serialize, Deserialize)]
struct OrderPlaced {
    order: String,
    tenant: String,
    total_minor: i64,
}

impl Event for OrderPlaced {
    const TOPIC: Topic = ORDERS;
    const KIND: &'static str = "com.example.order_placed.v1";
    type Codec = Json;

    // The unit of order: events of one order arrive as they were committed.
    fn key(&self) -> &str {
        &self.order
    }

    fn headers(&self, headers: &mut Headers) {
        headers.set("tenant", &self.tenant);
    }
}

#[derive(Serialize, Deserialize)]
struct OrderPaid {
    order: String,
}

impl Event for OrderPaid {
    const TOPIC: Topic = ORDERS;
    const KIND: &'static str = "com.example.order_paid.v1";
    type Codec = Json;

    fn key(&self) -> &str {
        &self.order
    }
}

fn placed(order: &str) -> OrderPlaced {
    OrderPlaced { order: order.into(), tenant: "acme".into(), total_minor: 4_200 }
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), BoxError> {
    let mut place = Place::new("publish", &[ORDERS]).await?;
    sqlx::query("create table shop.orders (id text primary key)").execute(&place.module).await?;

    // The row and the event commit together.
    let mut tx = place.module.begin().await?;
    sqlx::query("insert into shop.orders (id) values ('o-1')").execute(&mut *tx).await?;
    let version = publish(&mut tx, &placed("o-1")).await?;
    tx.commit().await?;
    place.say(format!("o-1 is at version {version}"));

    // A transaction that rolls back has published nothing.
    let mut tx = place.module.begin().await?;
    publish(&mut tx, &placed("o-2")).await?;
    tx.rollback().await?;

    // Many events, of any types, in one round trip. Versions come back in this order.
    let mut tx = place.module.begin().await?;
    let paid = OrderPaid { order: "o-1".into() };
    let versions = publish_all(&mut tx, &[&paid, &placed("o-3")]).await?;
    tx.commit().await?;
    place.say(format!("o-1 and o-3 are at versions {versions:?}"));

    // What breaks a limit is refused here, in its own transaction, not later by a broker.
    let mut tx = place.module.begin().await?;
    if let Err(error) = publish(&mut tx, &placed(&"o".repeat(300))).await {
        place.say(error.to_string().replace(&"o".repeat(300), "o..o"));
    }
    drop(tx);

    let waiting: i64 =
        sqlx::query_scalar("select count(*) from outbox.pending").fetch_one(&place.relay).await?;
    place.say(format!("{waiting} events wait for a relay"));
    place
        .end(&[
            "o-1 is at version 1",
            "o-1 and o-3 are at versions [2, 1]",
            "event com.example.order_placed.v1 with key \"o..o\" was refused by the outbox: the key has 300 bytes; 1 to 255 are allowed",
            "3 events wait for a relay",
        ])
        .await
}
