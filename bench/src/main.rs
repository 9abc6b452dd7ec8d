//! `cargo xtask bench`: each figure beside its limit, alternating in the same run, with the spread.

mod cpu;
mod ground;
mod limits;
mod machine;
mod migration;
mod outbox;
mod page;
mod payments;
mod process;
mod report;

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use clap::{Parser, Subcommand};

/// Benchmarks. Figures are ratios to a limit measured in the same run; a wide spread is reported as inconclusive, unless every
/// round misses the bound.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// The outbox and the inbox, each figure beside its limit.
    Outbox(Box<outbox::Options>),
    /// Paid orders, with payments in the monolith and in the service, beside bare commits.
    Payments(Box<payments::Options>),
    /// Handing payments over, filling a service, both feeds, and what the seam and the owner's lock cost.
    Migration(Box<migration::Options>),
    /// Writes docs/performance.md, docs/performance-payments.md or docs/performance-migration.md from the JSON of a run.
    Report {
        /// What `outbox`, `payments` or `migration` wrote with `--json FILE`.
        json: PathBuf,
        /// Where the page goes; to standard output when it is `-`. By default the page in docs/ that it is for.
        #[arg(long)]
        out: Option<PathBuf>,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Args::parse().what {
        What::Outbox(options) => Box::pin(outbox::run(*options)).await,
        What::Payments(options) => Box::pin(payments::run(*options)).await,
        What::Migration(options) => Box::pin(migration::run(*options)).await,
        What::Report { json, out } => {
            let report = page::from_json(&json)?;
            let out = out.unwrap_or_else(|| report.page_path().into());
            if out.as_os_str() == "-" {
                print!("{}", report.page());
                return Ok(());
            }
            ensure!(!report.is_debug(), "these are times of a build for debugging: they are not published");
            std::fs::write(&out, report.page()).with_context(|| format!("write {}", out.display()))
        }
    }
}
