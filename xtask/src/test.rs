//! `cargo xtask test`.

use std::process::Command;

use crate::cargo::{self, become_it, binaries};
use crate::stack::Stack;

/// More settings of the PostgreSQL that is started.
const SETTINGS: &str = "BANYAN_POSTGRES_SETTINGS";
/// Statements are counted: the gate `verify` finds who reads by that.
const COUNTING: &str = "shared_preload_libraries=pg_stat_statements";

/// Run all tests on one PostgreSQL and one Kafka, which are brought up for them.
///
/// The servers and everything else that a run makes have names and ports of their own, so that two runs at once do
/// not meet. Exit code: that of `cargo test`.
#[derive(clap::Args)]
pub(crate) struct Test {
    /// Where PostgreSQL and Kafka come from; by default what BANYAN_STACK says, else the first that works.
    #[arg(long, value_name = "SOURCE")]
    stack: Option<Stack>,
    /// Only tests of this package; may be repeated.
    #[arg(long, short, value_name = "PACKAGE")]
    package: Vec<String>,
    /// Only tests whose names contain one of these words.
    words: Vec<String>,
}

impl Test {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        // The tests start binaries of other packages too. With the tests, so that dependencies are built once: without them
        // cargo would choose other features.
        cargo::run(cargo::cargo().args(["build", "--workspace", "--bins", "--tests"]))?;

        let binaries = binaries()?;
        let cargo = cargo::cargo();
        let mut stack = Command::new(binaries.join("stack"));
        stack.current_dir(cargo::root()).env("BANYAN_BIN_DIR", &binaries);
        stack.arg("run");
        if let Some(source) = self.stack {
            stack.args(["--stack", source.name()]);
        }
        if std::env::var_os(SETTINGS).is_none() {
            stack.env(SETTINGS, COUNTING);
        }
        stack.arg("--").arg(cargo.get_program()).args(["test", "--no-fail-fast"]);
        if self.package.is_empty() {
            stack.arg("--workspace");
        }
        for package in self.package {
            stack.args(["--package", &package]);
        }
        if !self.words.is_empty() {
            stack.arg("--").args(self.words);
        }
        Err(become_it(stack))
    }
}
