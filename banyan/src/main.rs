//! The operator's command line: looks at a migration and walks it, over the monolith's admin API.

mod answers;
mod api;
mod cli;
mod code;
mod plan;
mod print;
mod run;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    // Fails only when there is one already, and then that one is used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match run::run(cli).await {
        Ok(outcome) => {
            // A reader that has seen enough, such as `head`, is no failure.
            let _ = std::io::stdout().write_all(outcome.text.as_bytes());
            if outcome.refused { ExitCode::from(cli::REFUSED) } else { ExitCode::SUCCESS }
        }
        Err(error) => {
            eprintln!("banyan: {error:#}");
            ExitCode::from(cli::FAILED)
        }
    }
}
