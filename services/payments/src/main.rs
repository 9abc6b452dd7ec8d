//! The payments service as a process.

use std::process::ExitCode;

use chassis::{config, process};
use clap::{CommandFactory as _, FromArgMatches as _};
use payments_service::{Cli, Command, Config, MigrateConfig, migrate, operate, run};

/// Exit codes: 0 after an orderly end, 1 when something failed or a difference is open, 2 for a bad argument or setting.
fn main() -> ExitCode {
    let help = config::help(Config::read);
    let migrate_help = config::help(MigrateConfig::read);
    let command = Cli::command().after_long_help(help);
    let command = command.mut_subcommand("migrate", |migrate| migrate.after_long_help(migrate_help));
    let cli = Cli::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
    match cli.command {
        Some(Command::Migrate) => {
            let config = config::load(MigrateConfig::read);
            process::run("payments-service", &config.telemetry, |_| migrate(&config))
        }
        Some(Command::Operate(order)) => {
            let config = config::load(Config::read);
            process::run("payments-service", &config.telemetry, |telemetry| {
                operate(&config, order, telemetry)
            })
        }
        None => {
            let config = config::load(Config::read);
            process::run("payments-service", &config.telemetry, |telemetry| {
                run(&config, cli.roles(), telemetry)
            })
        }
    }
}
