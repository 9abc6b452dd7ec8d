//! `cargo xtask bench`: each figure beside its limit, alternating in the same run, with the spread.

mod publish;
mod rounds;

use clap::{Parser, Subcommand};

/// Benchmarks. Figures are ratios to a limit measured in the same run; a wide spread is reported as inconclusive.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Commits per second of a business update with `outbox.publish`, beside its limits.
    Outbox(publish::Options),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Args::parse().what {
        What::Outbox(options) => publish::run(options).await,
    }
}
