//! A relay sends what was committed to Kafka, and what a record looks like there.
//!
//! `cargo run -p outbox --example relay`

mod place;

use outbox::{BoxError, Event, Json, Relay, Source as _, Topic, kafka, publish};
use place::Place;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

const ORDERS: Topic = Topic::new("orders.v1");

#[derive(Serialize, Deserialize)]
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

#[tokio::main]
pub(crate) async fn main() -> Result<(), BoxError> {
    let mut place = Place::new("relay", &[ORDERS]).await?;
    let stack = stack::shared().await?;
    let config = kafka::Config {
        bootstrap_servers: stack.kafka().to_owned(),
        topic_prefix: stack.topic_prefix("relay"),
        instance_id: None,
        client_id: "example".into(),
    };
    // Topics are made on purpose; one that comes into being on first use has the broker's defaults.
    kafka::create_topics(&config, &[ORDERS], 3).await?;

    // Run as many relays as you like, in processes of their own or beside the application: they share the work.
    let shutdown = CancellationToken::new();
    let relay = Relay::new(place.relay.clone(), kafka::sink(&config)?);
    let relay = tokio::spawn(relay.run(shutdown.clone()));

    let mut tx = place.module.begin().await?;
    publish(&mut tx, &OrderPlaced { order: "o-1".into() }).await?;
    tx.commit().await?;

    // Any Kafka client can read it; here is ours, without a gate.
    let source = kafka::source(&config, "look")?;
    let partitions = source.places(&[ORDERS]).await?;
    source.start(&[ORDERS], &partitions).await?;
    let record = source.recv().await?;
    place.say(format!("{}: {}", record.topic, String::from_utf8(record.payload)?));
    for name in ["ce_type", "ce_source", "ce_subject", "banyan-version", "content-type"] {
        let value = record.headers.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value.as_str());
        place.say(format!("{name}: {value}"));
    }

    // A relay that is told to stop waits for what it has sent and gives its share back.
    shutdown.cancel();
    relay.await??;
    place
        .end(&[
            r#"orders.v1: {"order":"o-1"}"#,
            "ce_type: com.example.order_placed.v1",
            "ce_source: shop.relay",
            "ce_subject: o-1",
            "banyan-version: 1",
            "content-type: application/json",
        ])
        .await
}
