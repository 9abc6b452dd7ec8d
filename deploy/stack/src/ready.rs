//! Waiting until PostgreSQL and Kafka answer, and refusing what can't serve.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use sqlx::{Connection, PgConnection};

use crate::{Error, store, url};

/// The oldest PostgreSQL that the migrations are written for.
const POSTGRES_MIN: i32 = 150_000;
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(50);
/// One attempt.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);

/// Waits until PostgreSQL answers a query, then checks that it is new enough and that we may create databases
/// and roles. `alive` ends the wait early when the server is gone.
pub(crate) async fn postgres(
    url: &str,
    bound: Duration,
    alive: impl Fn() -> Result<(), Error>,
) -> Result<(), Error> {
    let started = Instant::now();
    let mut connection = loop {
        alive()?;
        let last = match tokio::time::timeout(ATTEMPT_TIMEOUT, PgConnection::connect(url)).await {
            Ok(Ok(connection)) => break connection,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer to the connection".to_owned(),
        };
        if started.elapsed() > bound {
            let what = format!("PostgreSQL at {}", url::masked(url));
            return Err(Error::Timeout { what, bound, last: format!("; last: {last}") });
        }
        tokio::time::sleep(PAUSE).await;
    };
    let server = store::server(&mut connection).await.map_err(Error::database("tell its version"))?;
    if server.version < POSTGRES_MIN {
        return Err(Error::Missing(format!(
            "PostgreSQL at {} is {}, and 15 or newer is needed",
            url::masked(url),
            server.version / 10_000
        )));
    }
    if !server.superuser {
        return Err(Error::Missing(format!("the user of {} is not a superuser", url::masked(url))));
    }
    // A close that fails leaves a connection that the server ends by itself.
    let _ = connection.close().await;
    Ok(())
}

/// Waits until Kafka names a broker.
pub(crate) async fn kafka(
    servers: &str,
    bound: Duration,
    alive: impl Fn() -> Result<(), Error>,
) -> Result<(), Error> {
    let started = Instant::now();
    loop {
        alive()?;
        // Knocking first keeps librdkafka, which retries on its own terms, out of the first seconds.
        let last = match knock(servers).await {
            Ok(()) => match brokers(servers.to_owned()).await {
                Ok(0) => "it knows no broker yet".to_owned(),
                Ok(_) => return Ok(()),
                Err(error) => error.to_string(),
            },
            Err(error) => error.to_string(),
        };
        if started.elapsed() > bound {
            let what = format!("Kafka at {servers}");
            return Err(Error::Timeout { what, bound, last: format!("; last: {last}") });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn knock(servers: &str) -> std::io::Result<()> {
    let first = servers.split(',').next().unwrap_or_default().trim();
    let address = first.split_once("://").map_or(first, |(_, address)| address);
    tokio::time::timeout(ATTEMPT_TIMEOUT, tokio::net::TcpStream::connect(address)).await??;
    Ok(())
}

async fn brokers(servers: String) -> Result<usize, Error> {
    let asked = tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &servers)
            .set_log_level(RDKafkaLogLevel::Emerg)
            .create()?;
        consumer.fetch_metadata(None, ATTEMPT_TIMEOUT).map(|metadata| metadata.brokers().len())
    });
    match asked.await {
        Ok(result) => result.map_err(Error::kafka("name its brokers")),
        Err(error) => Err(Error::Missing(format!("asking Kafka for its brokers ended early: {error}"))),
    }
}
