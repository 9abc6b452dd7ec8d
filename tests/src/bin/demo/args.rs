//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use stack::Choice;

/// Moves payments from the monolith to the service, back and there again, under load, with kills, and says whether anything was
/// lost, doubled or disordered.
#[derive(Clone, Debug, Parser)]
#[command(name = "demo")]
pub(crate) struct Args {
    /// Where PostgreSQL and Kafka come from.
    #[arg(long, value_enum, default_value_t = Choice::Auto)]
    pub(crate) stack: Choice,
    /// Writes the result there.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Leaves everything running at the end, prints every address and tokens, and waits for Ctrl-C.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Orders per second.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub(crate) rate: u32,
    /// How long each stage lasts at least.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(3..=3600))]
    pub(crate) seconds_per_stage: u64,
    /// Payments that are there before anything begins, older than the outbox. The first hand-over is rolled back when a tenth of
    /// them has moved; fewer than 2,000 would all be on their way by then.
    #[arg(long, value_name = "PAYMENTS", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(2_000..=200_000))]
    pub(crate) old: u32,
    /// Breaks the system on purpose, to see the checker notice.
    #[arg(long = "break", value_enum, hide = true)]
    pub(crate) broken: Option<Break>,
}

/// What to break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Break {
    /// Rows of the relay's queue are deleted before they are sent.
    Relay,
    /// The provider forgets its idempotency keys, so that a repeated request charges again.
    Charge,
}
