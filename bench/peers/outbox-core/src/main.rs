//! A relay made of `outbox-core`, `outbox-postgres` and `outbox-kafka`, as their READMEs show it.
//!
//! Settings: batches of 500, no linger (each record is awaited before the next is sent, so a linger would only slow it),
//! `acks=all` and the idempotent producer that its transport switches on, a lock of one minute (the shortest), woken by its
//! own NOTIFY trigger and else once a second (the shortest poll).

use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Parser;
use outbox_core::prelude::*;
use outbox_kafka::{KafkaKeyExtractable, KafkaTransport};
use outbox_postgres::PostgresOutbox;
use rdkafka::ClientConfig;
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

/// A relay of outbox-core over table `outbox_events`, until SIGTERM.
#[derive(Parser)]
struct Args {
    #[arg(long)]
    database_url: String,
    #[arg(long)]
    bootstrap_servers: String,
    /// Put in front of the topic's name.
    #[arg(long)]
    topic_prefix: String,
}

/// The payload that all contenders carry.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Booked {
    key: String,
    version: i64,
    pad: String,
}

impl KafkaKeyExtractable for Booked {
    fn kafka_key(&self) -> Vec<u8> {
        self.key.as_bytes().to_vec()
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(5).connect(&args.database_url).await?;
    let mut config = OutboxConfig::<Booked>::default();
    config.batch_size = 500;
    config.poll_interval_secs = 1;
    config.lock_timeout_mins = 1;
    let config = Arc::new(config);
    let mut producer = ClientConfig::new();
    producer
        .set("bootstrap.servers", &args.bootstrap_servers)
        .set("acks", "all")
        .set("linger.ms", "0")
        .set("partitioner", "murmur2_random");
    let transport = KafkaTransport::new(&format!("{}bench.v1", args.topic_prefix), &producer)?;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let relay = OutboxManagerBuilder::new()
        .storage(Arc::new(PostgresOutbox::new(pool, config.clone())))
        .publisher(Arc::new(transport))
        .config(config)
        .shutdown_rx(stopped)
        .build()?;
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        terminated.recv().await;
        stop.send(true)
    });
    println!("ready");
    relay.run().await.context("the relay ended")
}
