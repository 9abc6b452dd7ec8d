//! A dead letter: an event that its handler refuses again and again holds up its own key only, and waits for someone who mends
//! it.
//!
//! `cargo run -p outbox --example dead_letter`

mod place;

use std::time::Duration;

use outbox::{
    BoxError, Event, Handler, Inbox, InboxOptions, Json, Received, Relay, Topic,
    dead_letter::{self, Filter},
    memory::Memory,
    publish,
};
use place::Place;
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgTransaction;
use tokio_util::sync::CancellationToken;

const ORDERS: Topic = Topic::new("orders.v1");

#[derive(Serialize, Deserialize)]
struct OrderPlaced {
    order: String,
    pieces: i64,
}

impl Event for OrderPlaced {
    const TOPIC: Topic = ORDERS;
    const KIND: &'static str = "com.example.order_placed.v1";
    type Codec = Json;

    fn key(&self) -> &str {
        &self.order
    }
}

struct Pick;

impl Handler for Pick {
    const NAME: &'static str = "warehouse.pick";
    type Event = OrderPlaced;

    async fn handle(&self, tx: &mut PgTransaction<'_>, event: Received<OrderPlaced>) -> Result<(), BoxError> {
        if event.event.pieces < 0 {
            return Err(format!("can't pick {} pieces", event.event.pieces).into());
        }
        sqlx::query("insert into shop.picked values ($1, $2)")
            .bind(event.event.order)
            .bind(event.event.pieces)
            .execute(&mut **tx)
            .await?;
        Ok(())
    }
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), BoxError> {
    let mut place = Place::new("dead_letter", &[ORDERS]).await?;
    sqlx::query("create table shop.picked (order_id text, pieces bigint)").execute(&place.module).await?;
    let broker = Memory::new(3);
    let shutdown = CancellationToken::new();
    let relay = tokio::spawn(Relay::new(place.relay.clone(), broker.sink()).run(shutdown.clone()));
    let options = InboxOptions {
        attempts_max: 2,
        retry_delay_min: Duration::from_millis(10),
        ..InboxOptions::default()
    };
    let inbox = Inbox::new(place.module.clone(), broker.source("warehouse")).register(Pick).with(options);
    let inbox = tokio::spawn(inbox.run(shutdown.clone()));

    for (order, pieces) in [("o-1", -5), ("o-1", 7), ("o-2", 1)] {
        let mut tx = place.module.begin().await?;
        publish(&mut tx, &OrderPlaced { order: order.into(), pieces }).await?;
        tx.commit().await?;
    }

    // Operators look at causes first, then at letters. Real ones have a role of their own: outbox::grant_operator.
    let letter = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            let all = dead_letter::list(&place.owner, &Filter::default(), None, 10).await?;
            if let Some(letter) = all.into_iter().next() {
                return Ok::<_, BoxError>(letter);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let letter = letter.await??;
    place.say(format!("{} version {}: {}", letter.key, letter.version, letter.error));

    // An edited payload must be one that the handler can read; who did it and why is kept.
    let decodes = dead_letter::decodes::<OrderPlaced>;
    let edit = async |payload: &[u8]| {
        let why = "the shop's form took a minus sign";
        dead_letter::edit_and_replay(&place.owner, letter.id, payload, &decodes, "alice", why).await
    };
    let refused = edit(b"{}").await.err().ok_or("an order without pieces is not readable")?;
    let edited = edit(br#"{"order": "o-1", "pieces": 5}"#).await?;
    place.say(format!("not readable, refused: {}", refused.to_string().contains("missing field")));
    place.say(format!("edited: {edited}"));

    // It passes the same gate as before, and what waited behind it follows, in order.
    let picked = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            let picked: Vec<i64> =
                sqlx::query_scalar("select pieces from shop.picked where order_id = 'o-1'")
                    .fetch_all(&place.module)
                    .await?;
            if picked.len() == 2 {
                return Ok::<_, BoxError>(picked);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let picked = picked.await??;
    place.say(format!("picked of o-1: {picked:?}"));

    shutdown.cancel();
    relay.await??;
    inbox.await??;
    place
        .end(&[
            "o-1 version 1: can't pick -5 pieces",
            "not readable, refused: true",
            "edited: true",
            "picked of o-1: [5, 7]",
        ])
        .await
}
