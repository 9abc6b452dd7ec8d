//! `cargo xtask bench`: each figure beside its limit, alternating in the same run, with the spread.

mod contender;
mod cpu;
mod drive;
mod ground;
mod limits;
mod listener;
mod machine;
mod options;
mod page;
mod process;
mod profile;
mod report;
mod rows;
mod run;
mod verify;
mod workload;
mod writers;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

/// Benchmarks. Figures are ratios to a limit measured in the same run; a wide spread is reported as inconclusive.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// The outbox and the inbox, each figure beside its limit.
    Outbox(Box<options::Options>),
    /// Writes docs/performance.md from the JSON of a run.
    Report {
        /// What `outbox --json FILE` wrote.
        json: PathBuf,
        /// Where the page goes; to standard output when it is `-`.
        #[arg(long, default_value = "docs/performance.md")]
        out: PathBuf,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Args::parse().what {
        What::Outbox(options) => Box::pin(run::outbox(*options)).await,
        What::Report { json, out } => {
            let page = page::from_json(&json)?;
            if out.as_os_str() == "-" {
                print!("{page}");
                return Ok(());
            }
            std::fs::write(&out, page).with_context(|| format!("write {}", out.display()))
        }
    }
}
