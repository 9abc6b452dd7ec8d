//! The payments service as a process.

use std::process::ExitCode;

use chassis::{config, telemetry};
use clap::{CommandFactory as _, FromArgMatches as _};
use payments_service::{Cli, Command, Config, MigrateConfig, migrate, run};

/// Exit codes: 0 after an orderly end, 1 when something failed, 2 for a bad argument or setting.
fn main() -> ExitCode {
    let help = config::help(Config::read);
    let migrate_help = config::help(MigrateConfig::read);
    let command = Cli::command().after_long_help(help);
    let command = command.mut_subcommand("migrate", |migrate| migrate.after_long_help(migrate_help));
    let cli = Cli::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
    let result = match cli.command {
        Some(Command::Migrate) => {
            let config = config::load(MigrateConfig::read);
            start(&config.telemetry, migrate(&config))
        }
        None => {
            let config = config::load(Config::read);
            start(&config.telemetry, run(&config, cli.roles()))
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("payments-service: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(log: &telemetry::Settings, work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    telemetry::init("payments-service", log)?;
    // Two TLS libraries may be linked one day; the choice is made here, once.
    let chosen = rustls::crypto::ring::default_provider().install_default();
    anyhow::ensure!(chosen.is_ok(), "a TLS library was chosen before");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(work)
}
