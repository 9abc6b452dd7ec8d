//! Operators' commands: with the settings of the running process, and a few connections of their own.

use ::payments::Order;
use anyhow::ensure;
use chassis::Telemetry;
use chassis::database::{PoolOptions, pool};
use outbox::Wake;

use super::home;
use crate::Config;

/// Connections of a command.
const CONNECTIONS_MAX: u32 = 3;

/// Does what an operator asks, and prints what comes of it.
///
/// # Errors
/// What could not be done, and that differences are open.
pub async fn operate(config: &Config, order: Order, telemetry: Telemetry) -> anyhow::Result<()> {
    let options = PoolOptions::new("monolith.operator", CONNECTIONS_MAX);
    let pool = pool(&config.databases.payments, &options)?;
    let metrics = ::payments::Metrics::new(&telemetry.meter());
    let home = home(config, (&pool, &Wake::default(), &metrics))?;
    let told = ::payments::operate(&home, &config.half.reconcile, order).await;
    pool.close().await;
    let told = told?;
    print!("{}", told.text);
    ensure!(told.open == 0, "{} differences are open", told.open);
    Ok(())
}
