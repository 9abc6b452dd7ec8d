//! The shop's monolith.

use std::process::ExitCode;

#[cfg(feature = "local-payments")]
use app::operate;
use app::{Cli, Command, Config, MigrateConfig, WebhooksConfig, migrate, operate_webhooks, run};
use chassis::{config, process};
use clap::{CommandFactory as _, FromArgMatches as _};

/// Exit codes: 0 after an orderly end, 1 when something failed or a difference is open, 2 for a bad argument or setting.
fn main() -> ExitCode {
    let help = config::help(Config::read);
    let migrate_help = config::help(MigrateConfig::read);
    let command = Cli::command().after_long_help(help);
    let command = command.mut_subcommand("migrate", |migrate| migrate.after_long_help(migrate_help));
    let webhooks_help = config::help(WebhooksConfig::read);
    let command = command.mut_subcommand("webhooks", |webhooks| webhooks.after_long_help(webhooks_help));
    let cli = Cli::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
    match cli.command {
        Some(Command::Migrate(args)) => {
            let config = config::load(MigrateConfig::read);
            process::run("monolith", &config.telemetry, |_| migrate(&config, &args.seed))
        }
        Some(Command::Webhooks(command)) => {
            let config = config::load(WebhooksConfig::read);
            process::run("monolith", &config.telemetry, |_| operate_webhooks(&config.database, &command))
        }
        #[cfg(feature = "local-payments")]
        Some(Command::Operate(order)) => {
            let config = config::load(Config::read);
            process::run("monolith", &config.telemetry, |telemetry| operate(&config, order, telemetry))
        }
        None => {
            let config = config::load(Config::read);
            process::run("monolith", &config.telemetry, |telemetry| run(&config, cli.roles(), telemetry))
        }
    }
}
