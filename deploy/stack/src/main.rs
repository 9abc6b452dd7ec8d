//! `stack up` and `stack run`: PostgreSQL and Kafka for one command, or until Ctrl-C.

mod arguments;
mod run;

use std::io::IsTerminal;
use std::process::ExitCode;

use arguments::{Arguments, Command};
use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|_| "info,librdkafka=off,rdkafka=off".into()))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    let ended = match Arguments::parse().command {
        Command::Up { choice } => run::up(choice).await,
        Command::Run { choice, command } => run::run(choice, &command).await,
    };
    ended.unwrap_or_else(|error| {
        eprintln!("stack: {error:#}");
        ExitCode::from(run::FAILED)
    })
}
