//! `cargo xtask bench`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;

use crate::cargo::{self, become_it};

/// Run the benchmarks in release mode.
///
/// Builds the benchmarks and what they measure: a relay for `outbox`, with `--peers` also the peers (their crates, and
/// Debezium by Maven); for `payments` and `migration` monolith, payments service and provider. Then it becomes the benchmark.
/// `--debug-build` builds for debugging instead, to try a benchmark out; its times are never published.
#[derive(clap::Args)]
pub(crate) struct Bench {
    /// Passed on to the benchmarks, but for `--debug-build`; `outbox --help`, `payments --help` and `migration --help` list them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Says that nothing is to be optimized.
const DEBUG_BUILD: &str = "--debug-build";

/// What the benchmarks of the shop run.
const PROGRAMS: [&str; 3] = ["app", "payments-service", "provider"];

/// Statements are counted, and the write-ahead log is kept until it is read.
const COUNTING: &str = "shared_preload_libraries=pg_stat_statements wal_keep_size=2GB";

impl Bench {
    pub(crate) fn run(mut self) -> anyhow::Result<()> {
        let given = self.arguments.len();
        self.arguments.retain(|argument| argument != DEBUG_BUILD);
        let debug = self.arguments.len() < given;
        let what = self.arguments.first().cloned().unwrap_or_default();
        let (payments, migration) = (what == "payments", what == "migration");
        let mut build = cargo::cargo();
        build.args(["build", "--package", "bench", "--bins"]);
        if payments || migration {
            build.args(PROGRAMS.iter().flat_map(|package| ["--package", package]));
        }
        if !debug {
            build.arg("--release");
        }
        cargo::run(&mut build)?;
        // `target`, wherever `CARGO_TARGET_DIR` points: we lie in its folder of unoptimized programs.
        let binaries = cargo::binaries()?;
        let target = binaries.parent().context("the programs are in no folder")?.to_owned();
        let mut bench = Command::new(target.join(if debug { "debug/bench" } else { "release/bench" }));
        // A broker as one has it, and not one for many tests side by side: both compilers, and room for a collection that is rare.
        bench.env("BANYAN_KAFKA_JVM", "-Xms1g -Xmx1g -Xmn700m -XX:+UseSerialGC");
        if payments {
            bench.env("BANYAN_POSTGRES_SETTINGS", COUNTING);
        } else if self.arguments.iter().any(|argument| argument.to_string_lossy().contains("peer")) {
            peers(&target.join("peers"))?;
            // Debezium reads the write-ahead log, and is held while a backlog is written; the settings are the same for all.
            bench.env("BANYAN_POSTGRES_SETTINGS", "wal_level=logical wal_sender_timeout=0");
        }
        bench.args(self.arguments);
        Err(become_it(bench))
    }
}

/// Builds the peers into a folder of their own.
fn peers(folder: &PathBuf) -> anyhow::Result<()> {
    let peers = cargo::root().join("bench/peers");
    let mut build = cargo::cargo();
    build.args(["build", "--release", "--locked", "--manifest-path"]).arg(peers.join("Cargo.toml"));
    cargo::run(build.arg("--target-dir").arg(folder))?;
    let mut output = OsString::from("-Dpeer.folder=");
    output.push(folder.join("debezium"));
    let mut maven = Command::new("mvn");
    maven.args(["-q", "-B", "-f"]).arg(peers.join("debezium/pom.xml")).arg("package").arg(output);
    cargo::run(&mut maven)
}
