//! PostgreSQL and Kafka as containers of a Docker engine.

mod engine;
mod kafka;
mod postgres;

use crate::Error;
use crate::config::Config;
use crate::guard::Guard;
use crate::stack::Servers;
use engine::Engine;

/// Asks the engine whether it is there, then starts both containers side by side.
pub(crate) async fn start(config: &Config) -> Result<Servers, Error> {
    let engine = Engine::connect(config).await?;
    let guard = Guard::start()?;
    // While this file is there, the guard looks for containers twice: the engine may still be creating one.
    let starting = guard.folder().join("starting");
    std::fs::write(&starting, "").map_err(Error::io(format!("write {}", starting.display())))?;
    let (postgres, kafka) = tokio::try_join!(
        postgres::start(&engine, &guard, &config.postgres_image, &config.postgres_settings),
        kafka::start(&engine, &guard, &config.kafka_image, &config.kafka_jvm)
    )?;
    std::fs::remove_file(&starting).map_err(Error::io(format!("remove {}", starting.display())))?;
    Ok(Servers {
        postgres_url: postgres.address,
        kafka: kafka.address,
        detail: format!("{} and {} on Docker {}", config.postgres_image, config.kafka_image, engine.version),
        containers: [postgres.pid, kafka.pid].into_iter().flatten().collect(),
        guard: Some(guard),
    })
}

/// A container that serves.
struct Running {
    address: String,
    pid: Option<u32>,
}
