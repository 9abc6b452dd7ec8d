//! What a run is told.

use std::{collections::BTreeMap, path::PathBuf};

use clap::Args;
use stack::Choice;

/// Bounds of a run, each with its default; `--short` makes all of them small.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Rounds that count; one before them warms up and does not.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// Payments that are there before the migration begins, each of them ordered and paid.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=200_000))]
    pub(crate) keys: u32,
    /// Payments that are written to while they move, each way.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) pauses: u32,
    /// Pairs of calls, with the seam and without, and with the owner's lock and without; and calls of each route.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(10..=10_000))]
    pub(crate) pairs: u32,
    /// Orders a second of those who order meanwhile.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) rate: u32,
    /// Seconds of each window with orders alone.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) seconds: u64,
    /// Milliseconds that the provider takes for each request.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    pub(crate) provider_ms: u64,
    /// Seconds that a round waits at most for an idle machine before it starts; the shop's own polls keep it busy a little.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=3_600))]
    pub(crate) idle_seconds: u64,
    /// One short round without a warm-up; nothing may be concluded from it.
    #[arg(long)]
    pub(crate) short: bool,
    /// Where PostgreSQL and Kafka come from.
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) stack: Choice,
    /// Writes all that was found here, after each round.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
}

impl Options {
    /// The options with `--short` worked in.
    pub(super) fn settled(mut self) -> Self {
        if self.short {
            self.rounds = 1;
            self.idle_seconds = 0;
            self.keys = self.keys.min(1_000);
            self.pauses = self.pauses.min(50);
            self.pairs = self.pairs.min(100);
            self.seconds = self.seconds.min(3);
        }
        self
    }

    /// As the page shows them.
    pub(super) fn facts(&self) -> BTreeMap<String, String> {
        let all = [
            ("rounds", self.rounds.to_string()),
            ("payments", self.keys.to_string()),
            ("payments written to as they move", self.pauses.to_string()),
            ("pairs of calls", self.pairs.to_string()),
            ("orders/s meanwhile", self.rate.to_string()),
            ("seconds of orders alone", self.seconds.to_string()),
            ("milliseconds of the provider for a request", self.provider_ms.to_string()),
            ("seconds waited for an idle machine", self.idle_seconds.to_string()),
        ];
        all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}
