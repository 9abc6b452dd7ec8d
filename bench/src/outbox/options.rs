//! What a run is told.

use std::{collections::BTreeMap, path::PathBuf};

use clap::{Args, ValueEnum};
use stack::Choice;

/// Bounds of a run, each with its default; `--short` makes all of them small.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Only these rows; all by default (the peers' with --peers).
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) only: Vec<Row>,
    /// Rounds that count, alternating; one before them warms up and does not.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// Seconds of a round of publish, latency and writers.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) seconds: u64,
    /// Concurrent clients that publish.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=32))]
    pub(crate) clients: u32,
    /// Events of a backlog; a tenth of it with 8 hot keys.
    #[arg(long, default_value_t = 300_000, value_parser = clap::value_parser!(u64).range(1_000..=10_000_000))]
    pub(crate) backlog: u64,
    /// Events that the inbox applies.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1_000..=10_000_000))]
    pub(crate) inbox_events: u64,
    /// Commits a second in the latency row; half of the publish row's median by default.
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    /// Seconds of the chaos row, and of the transaction that stays open in it.
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(10..=7_200))]
    pub(crate) chaos_seconds: u64,
    /// Commits a second in the chaos row.
    #[arg(long, default_value_t = 500.0)]
    pub(crate) chaos_rate: f64,
    /// Measure the peers too. `cargo xtask bench` builds them.
    #[arg(long)]
    pub(crate) peers: bool,
    /// Events of a backlog beside the peers; a tenth of it with 8 hot keys.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1_000..=10_000_000))]
    pub(crate) peer_backlog: u64,
    /// Commits a second in the latency row beside the peers.
    #[arg(long, default_value_t = 500.0)]
    pub(crate) peer_rate: f64,
    /// Rounds of the kills beside the peers, who wait a minute or more after each.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) kill_rounds: u32,
    /// Look into the drains: sessions of PostgreSQL by what they do, and with `perf` the relay by function.
    #[arg(long)]
    pub(crate) profile: bool,
    /// Seconds that a round waits at most for an idle machine before it starts.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(0..=3_600))]
    pub(crate) idle_seconds: u64,
    /// A try of every row within minutes; nothing may be concluded from it.
    #[arg(long)]
    pub(crate) short: bool,
    /// Where PostgreSQL and Kafka come from.
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) stack: Choice,
    /// Writes all that was found here, after each row.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
}

/// A row of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Row {
    Publish,
    Drain,
    Latency,
    Inbox,
    Chaos,
    PeerDrain,
    PeerLatency,
    PeerWriters,
    PeerKills,
}

impl Row {
    /// In the order in which they run: latency needs publish's rate.
    const ALL: [Self; 9] = [
        Self::Publish,
        Self::Drain,
        Self::Latency,
        Self::Inbox,
        Self::Chaos,
        Self::PeerDrain,
        Self::PeerLatency,
        Self::PeerWriters,
        Self::PeerKills,
    ];

    fn is_peers(self) -> bool {
        match self {
            Self::Publish | Self::Drain | Self::Latency | Self::Inbox | Self::Chaos => false,
            Self::PeerDrain | Self::PeerLatency | Self::PeerWriters | Self::PeerKills => true,
        }
    }
}

impl Options {
    /// The options with `--short` worked in.
    pub(crate) fn settled(mut self) -> Self {
        if self.short {
            self.rounds = 1;
            self.kill_rounds = 1;
            self.idle_seconds = 0;
            self.seconds = self.seconds.min(3);
            self.backlog = self.backlog.min(20_000);
            self.inbox_events = self.inbox_events.min(5_000);
            self.chaos_seconds = self.chaos_seconds.min(30);
            self.peer_backlog = self.peer_backlog.min(5_000);
        }
        self
    }

    /// The rows to run.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let wanted = |row: &Row| {
            if self.only.is_empty() { self.peers || !row.is_peers() } else { self.only.contains(row) }
        };
        Row::ALL.into_iter().filter(wanted).collect()
    }

    /// As the page shows them.
    pub(crate) fn facts(&self) -> BTreeMap<String, String> {
        let all = [
            ("rounds", self.rounds.to_string()),
            ("seconds of a round", self.seconds.to_string()),
            ("seconds waited for an idle machine", self.idle_seconds.to_string()),
            ("clients", self.clients.to_string()),
            ("backlog", self.backlog.to_string()),
            ("inbox events", self.inbox_events.to_string()),
            ("chaos seconds", self.chaos_seconds.to_string()),
            ("chaos commits a second", self.chaos_rate.to_string()),
            ("backlog beside peers", self.peer_backlog.to_string()),
            ("rounds of kills beside peers", self.kill_rounds.to_string()),
            ("commits a second beside peers", self.peer_rate.to_string()),
        ];
        all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}
