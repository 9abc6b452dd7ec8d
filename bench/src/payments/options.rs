//! What a run is told.

use std::{collections::BTreeMap, path::PathBuf};

use clap::Args;
use stack::Choice;

/// Bounds of a run, each with its default; `--short` makes all of them small.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Rounds that count, in process and through the service in turn; one before them warms up and does not.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// Seconds that are counted of a round's closed loop, and seconds of its open loop.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) seconds: u64,
    /// Seconds of bare commits beside each round.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) limit_seconds: u64,
    /// Orders under way at once in the closed loop. Of several numbers the round that warms up tries each, and the best one stays.
    #[arg(long, value_delimiter = ',', default_values_t = [16, 32, 64, 128],
          value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) at_once: Vec<u32>,
    /// Milliseconds that the provider takes for each request; a paid order makes two, one after the other.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    pub(crate) provider_ms: u64,
    /// Seconds that a round waits at most for an idle machine before it starts.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(0..=3_600))]
    pub(crate) idle_seconds: u64,
    /// One short round each, without a warm-up; nothing may be concluded from it.
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
            self.seconds = self.seconds.min(3);
            self.limit_seconds = self.limit_seconds.min(2);
            self.at_once.truncate(1);
        }
        self
    }

    /// As the page shows them.
    pub(super) fn facts(&self) -> BTreeMap<String, String> {
        let tried: Vec<String> = self.at_once.iter().map(u32::to_string).collect();
        let all = [
            ("rounds", self.rounds.to_string()),
            ("seconds of each loop", self.seconds.to_string()),
            ("seconds of bare commits", self.limit_seconds.to_string()),
            ("orders at once that were tried", tried.join(" ")),
            ("milliseconds of the provider for a request", self.provider_ms.to_string()),
            ("seconds waited for an idle machine", self.idle_seconds.to_string()),
        ];
        all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}
