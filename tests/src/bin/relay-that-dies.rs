//! A relay in a process of its own that kills itself at a chosen point, for stories about crashes.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use async_trait::async_trait;
use chassis::listening::Listening;
use clap::{Parser, ValueEnum};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use outbox::{Error, Record, Refusal, Relay, Sink, kafka};
use sqlx::postgres::PgPoolOptions;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

#[derive(Parser)]
struct Args {
    /// The database, as a relay's role.
    #[arg(long, env = "RELAY_DATABASE_URL", hide_env_values = true)]
    database_url: String,
    #[arg(long, env = "KAFKA_BOOTSTRAP_SERVERS")]
    bootstrap_servers: String,
    #[arg(long, env = "KAFKA_TOPIC_PREFIX")]
    topic_prefix: String,
    /// Where to die.
    #[arg(long)]
    dies: Point,
    /// How many records are delivered before.
    #[arg(long, default_value_t = 0)]
    after: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum Point {
    /// After a commit, before its event is sent.
    BeforeSend,
    /// After the delivery was reported, before the row is deleted.
    BeforeDelete,
    Never,
}

/// A sink that ends the process as `kill -9` would: no destructor, no flush, no release of leases.
struct Deadly<S> {
    sink: S,
    dies: Point,
    left: AtomicUsize,
}

impl<S> Deadly<S> {
    /// True for the record after the last one that is let through.
    fn is_due(&self) -> bool {
        self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err()
    }
}

fn die() {
    // Nothing to handle: either we are gone, or the story fails for its missing death.
    let _ = kill(Pid::this(), Signal::SIGKILL);
}

#[async_trait]
impl<S: Sink> Sink for Deadly<S> {
    async fn send(&self, record: Record) -> Result<(), Refusal> {
        match self.dies {
            Point::BeforeSend => {
                if self.is_due() {
                    die();
                }
                self.sink.send(record).await
            }
            Point::BeforeDelete => {
                self.sink.send(record).await?;
                if self.is_due() {
                    die();
                }
                Ok(())
            }
            Point::Never => self.sink.send(record).await,
        }
    }

    async fn check(&self) -> Result<(), Error> {
        self.sink.check().await
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let args = Args::parse();
    let pool =
        PgPoolOptions::new().max_connections(5).connect(&args.database_url).await.context("connect")?;
    let transport = kafka::Config {
        bootstrap_servers: args.bootstrap_servers,
        topic_prefix: args.topic_prefix,
        instance_id: None,
        client_id: "relay-that-dies".into(),
    };
    let sink = Deadly { sink: kafka::sink(&transport)?, dies: args.dies, left: AtomicUsize::new(args.after) };
    let shutdown = CancellationToken::new();
    let (stop, mut terminated) = (shutdown.clone(), signal(SignalKind::terminate())?);
    // Ends with the process; it has nothing to finish.
    tokio::spawn(async move {
        terminated.recv().await;
        stop.cancel();
    });
    Listening::default().announce()?;
    Ok(Relay::new(pool, sink).run(shutdown).await?)
}
