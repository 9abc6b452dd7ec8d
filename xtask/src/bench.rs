//! `cargo xtask bench`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;

use crate::cargo::{self, become_it};

/// Run the benchmarks in release mode.
///
/// Builds the benchmarks and the relay that they measure, with `--peers` also the peers (their crates, and Debezium by
/// Maven), and becomes the benchmark.
#[derive(clap::Args)]
pub(crate) struct Bench {
    /// Passed on to the benchmarks; `outbox --help` lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

impl Bench {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        cargo::run(cargo::cargo().args(["build", "--release", "--package", "bench", "--bins"]))?;
        // `target`, wherever `CARGO_TARGET_DIR` points: we lie in its folder of unoptimized programs.
        let binaries = cargo::binaries()?;
        let target = binaries.parent().context("the programs are in no folder")?.to_owned();
        let mut bench = Command::new(target.join("release/bench"));
        // A broker as one has it, and not one for many tests side by side: both compilers, and room for a collection that is rare.
        bench.env("BANYAN_KAFKA_JVM", "-Xms1g -Xmx1g -Xmn700m -XX:+UseSerialGC");
        if self.arguments.iter().any(|argument| argument.to_string_lossy().contains("peer")) {
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
