//! A process that is a relay and nothing else: what its memory and processor time are measured on, and what is killed.

use anyhow::{Context, Result};
use clap::Parser;
use outbox::{Relay, RelayOptions, kafka};
use sqlx::postgres::PgPoolOptions;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A relay with its default options, until SIGTERM.
#[derive(Parser)]
struct Args {
    #[arg(long)]
    database_url: String,
    #[arg(long)]
    bootstrap_servers: String,
    /// Put in front of each topic's name.
    #[arg(long)]
    topic_prefix: String,
    /// Connections to the database at most.
    #[arg(long, default_value_t = 5)]
    connections: u32,
}

#[tokio::main]
async fn main() -> Result<()> {
    let filter = tracing_subscriber::EnvFilter::new("warn,librdkafka=off,rdkafka=off");
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let args = Args::parse();
    let pool = PgPoolOptions::new()
        .max_connections(args.connections)
        .connect(&args.database_url)
        .await
        .context("connect to PostgreSQL")?;
    let transport = kafka::Config {
        bootstrap_servers: args.bootstrap_servers,
        topic_prefix: args.topic_prefix,
        instance_id: None,
        client_id: "lone-relay".into(),
    };
    let relay = Relay::new(pool, kafka::sink(&transport)?).with(RelayOptions::default());
    let shutdown = CancellationToken::new();
    let (stop, mut terminated) = (shutdown.clone(), signal(SignalKind::terminate())?);
    // Ends with the process; it has nothing to finish.
    tokio::spawn(async move {
        terminated.recv().await;
        stop.cancel();
    });
    println!("ready");
    Ok(relay.run(shutdown).await?)
}
