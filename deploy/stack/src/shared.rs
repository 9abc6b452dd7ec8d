//! One stack for all tests of a process.

use tokio::sync::OnceCell;

use crate::config::Config;
use crate::{Error, Stack};

/// A static is never dropped; the guard's pipe closes with the process, and that takes the stack down.
static SHARED: OnceCell<Result<Stack, String>> = OnceCell::const_new();

/// The stack of this process, brought up at first use.
///
/// `BANYAN_STACK` chooses the source, else it is the first of `DATABASE_URL` with `KAFKA_BOOTSTRAP_SERVERS`, Docker,
/// native. A failure is kept and answered to every later caller.
pub async fn shared() -> Result<&'static Stack, Error> {
    let stack = SHARED.get_or_init(|| async { start().await.map_err(|error| error.to_string()) }).await;
    stack.as_ref().map_err(|error| Error::Earlier(error.clone()))
}

async fn start() -> Result<Stack, Error> {
    let config = Config::from_env()?;
    Stack::start_with(config.choice, &config).await
}
