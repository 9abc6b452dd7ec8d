//! A handler: its effect and the note that it happened commit together, so it happens once, however often a record comes.
//!
//! `cargo run -p outbox --example handler`

mod place;

use std::time::Duration;

use outbox::{BoxError, Event, Handler, Inbox, Json, Received, Relay, Source, Topic, kafka, publish};
use place::Place;
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, postgres::PgTransaction};
use tokio_util::sync::CancellationToken;

const ORDERS: Topic = Topic::new("orders.v1");

#[derive(Serialize, Deserialize)]
struct OrderPlaced {
    order: String,
    total_minor: i64,
}

impl Event for OrderPlaced {
    const TOPIC: Topic = ORDERS;
    const KIND: &'static str = "com.example.order_placed.v1";
    type Codec = Json;

    fn key(&self) -> &str {
        &self.order
    }
}

/// Adds up what was ordered. Not idempotent by itself: the inbox makes it so.
struct AddUp;

impl Handler for AddUp {
    // Names its cursors. Never reuse a name for something else.
    const NAME: &'static str = "statistics.add_up";
    type Event = OrderPlaced;

    async fn handle(&self, tx: &mut PgTransaction<'_>, event: Received<OrderPlaced>) -> Result<(), BoxError> {
        sqlx::query("update shop.turnover set total_minor = total_minor + $1, orders = orders + 1")
            .bind(event.event.total_minor)
            .execute(&mut **tx)
            .await?;
        Ok(())
    }
}

/// Runs an inbox until that many orders are counted.
async fn count<S: Source>(pool: &PgPool, source: S, orders: i64) -> Result<i64, BoxError> {
    let shutdown = CancellationToken::new();
    let inbox = Inbox::new(pool.clone(), source).register(AddUp);
    let inbox = tokio::spawn(inbox.run(shutdown.clone()));
    let counted = async {
        loop {
            let (total, seen): (i64, i64) =
                sqlx::query_as("select total_minor, orders from shop.turnover").fetch_one(pool).await?;
            if seen >= orders {
                return Ok::<_, BoxError>(total);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let total = tokio::time::timeout(Duration::from_secs(60), counted).await??;
    shutdown.cancel();
    inbox.await??;
    Ok(total)
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), BoxError> {
    let mut place = Place::new("handler", &[ORDERS]).await?;
    sqlx::raw_sql("create table shop.turnover (total_minor bigint, orders bigint); insert into shop.turnover values (0, 0)")
        .execute(&place.module)
        .await?;
    let stack = stack::shared().await?;
    let config = kafka::Config {
        bootstrap_servers: stack.kafka().to_owned(),
        topic_prefix: stack.topic_prefix("handler"),
        instance_id: None,
        client_id: "example".into(),
    };
    kafka::create_topics(&config, &[ORDERS], 3).await?;
    let shutdown = CancellationToken::new();
    let relay = tokio::spawn(Relay::new(place.relay.clone(), kafka::sink(&config)?).run(shutdown.clone()));

    let mut tx = place.module.begin().await?;
    for (order, total_minor) in [("o-1", 1_000), ("o-2", 200)] {
        publish(&mut tx, &OrderPlaced { order: order.into(), total_minor }).await?;
    }
    tx.commit().await?;
    let total = count(&place.module, kafka::source(&config, "statistics")?, 2).await?;
    place.say(format!("turnover {total}"));

    // A group that has never read gets every record again. Its handler has cursors already: only what is new counts.
    let mut tx = place.module.begin().await?;
    publish(&mut tx, &OrderPlaced { order: "o-3".into(), total_minor: 30 }).await?;
    tx.commit().await?;
    let total = count(&place.module, kafka::source(&config, "statistics-again")?, 3).await?;
    place.say(format!("turnover {total}, though the first two came twice"));

    shutdown.cancel();
    relay.await??;
    place.end(&["turnover 1200", "turnover 1230, though the first two came twice"]).await
}
