//! One stack for all tests of a process.

use tokio::sync::OnceCell;

use crate::config::Config;
use crate::{Error, Stack};

/// A static is never dropped; the guard's pipe closes with the process, and that takes the stack down.
static SHARED: OnceCell<Result<Stack, String>> = OnceCell::const_new();
/// Some stories ask who reads: the server counts statements, unless other settings are asked for.
const COUNTING: &str = "shared_preload_libraries=pg_stat_statements";

/// The stack of this process, brought up at first use.
///
/// `BANYAN_STACK` chooses the source, else it is the first of `DATABASE_URL` with `KAFKA_BOOTSTRAP_SERVERS`, Docker,
/// native. A PostgreSQL that is started counts statements, unless `BANYAN_POSTGRES_SETTINGS` asks for other settings. A failure is kept
/// and answered to every later caller.
pub async fn shared() -> Result<&'static Stack, Error> {
    let stack = SHARED.get_or_init(|| async { start().await.map_err(|error| error.to_string()) }).await;
    stack.as_ref().map_err(|error| Error::Earlier(error.clone()))
}

async fn start() -> Result<Stack, Error> {
    let mut config = Config::from_env()?;
    if config.postgres_settings.is_empty() {
        config.postgres_settings.push(COUNTING.to_owned());
    }
    Stack::start_with(config.choice, &config).await
}
