//! The demo: a payment leaves the monolith, under load, and nothing is lost.

mod args;
mod back;
mod gate;
mod keep;
mod logs;
mod moves;
mod past;
mod progress;
mod report;
mod run;
mod store;
mod walk;

use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::args::Args;

/// Exit codes: 0 when every promise held, 1 when one did not or the demo failed, 130 after Ctrl-C.
#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("warn,rdkafka=off,librdkafka=off"))
        .with_writer(std::io::stderr)
        .init();
    let args = Args::parse();
    let interrupted = async {
        let mut terminated = signal(SignalKind::terminate())?;
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted,
            _ = terminated.recv() => Ok(()),
        }
    };
    tokio::select! {
        result = Box::pin(run::run(&args)) => match result {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("the demo failed: {error:#}");
                ExitCode::FAILURE
            }
        },
        // Dropping the run takes down whatever it had started.
        _ = interrupted => {
            eprintln!("interrupted; everything is taken down");
            ExitCode::from(130)
        }
    }
}
