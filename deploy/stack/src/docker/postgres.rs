//! PostgreSQL in a container: the official image, or one that honours its `POSTGRES_*` variables.

use std::time::Duration;

use testcontainers::ImageExt;
use testcontainers::core::IntoContainerPort;

use super::Running;
use super::engine::{Engine, image, publish};
use crate::guard::Guard;
use crate::{Error, ready};

const READY_TIMEOUT: Duration = Duration::from_secs(90);
const PORT: u16 = 5432;

/// Arguments of the server, as for a process of our own.
const SETTINGS: [&str; 6] = ["-c", "max_connections=300", "-c", "shared_buffers=64MB", "-c", "jit=off"];

pub(super) async fn start(
    engine: &Engine,
    guard: &Guard,
    name: &str,
    settings: &[String],
) -> Result<Running, Error> {
    let password = uuid::Uuid::new_v4().simple().to_string();
    let more = settings.iter().flat_map(|setting| ["-c", setting.as_str()]);
    let request = image(name)
        .with_exposed_port(PORT.tcp())
        .with_env_var("POSTGRES_USER", "postgres")
        .with_env_var("POSTGRES_PASSWORD", &password)
        .with_env_var("POSTGRES_DB", "postgres")
        .with_cmd(SETTINGS.into_iter().chain(more));
    let container = engine.start(guard, "postgres", publish(request, engine, 0, PORT)).await?;
    let (host, port) = (engine.address(), container.port(PORT.tcp()).await?);
    let address = format!("postgres://postgres:{password}@{host}:{port}/postgres");
    container.wait(ready::postgres(&address, READY_TIMEOUT, || Ok(()))).await?;
    Ok(Running { address, pid: container.pid().await })
}
