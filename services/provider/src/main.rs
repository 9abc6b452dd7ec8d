//! The stand-in payment provider as a process.

use anyhow::Context as _;
use chassis::listening::Listening;
use chassis::{Shutdown, config, shutdown, telemetry};
use clap::{CommandFactory as _, FromArgMatches as _, Parser};
use provider::Config;

/// A stand-in payment provider in the shape of Stripe's API, with a journal on disk.
#[derive(Parser)]
#[command(name = "provider", version)]
struct Cli {}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // Webhooks may go to an https URL; the TLS library is chosen here, once.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let help = config::help(Config::read);
    Cli::from_arg_matches(&Cli::command().after_help(help).get_matches())?;
    let config = config::load(Config::read);
    let telemetry = telemetry::init("provider", &config.log)?;
    let shutdown = Shutdown::listen(shutdown::GRACE).context("listening for signals")?;
    let running = provider::start(config, shutdown.token()).await?;
    Listening::default().at("http", running.http()).at("admin", running.admin()).announce()?;
    let ended = shutdown.run(running.join()).await;
    telemetry.stop();
    Ok(ended??)
}
