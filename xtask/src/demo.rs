//! `cargo xtask demo`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use crate::cargo::{self, become_it, binaries};
use crate::stack::Stack;

/// Move the birth of payments from the monolith to the service and back, under load, and check every promise.
///
/// Builds the binaries, brings PostgreSQL and Kafka up, starts provider, monolith, relay and service as processes,
/// sends live traffic, and walks the migration forward, back and forward again, killing processes on the way. It
/// ends with a table made from the databases, the topic and the provider's journal: accepted, charged, lost,
/// doubled, books. Exit code 0: every promise held.
#[derive(clap::Args)]
pub(crate) struct Demo {
    /// Where PostgreSQL and Kafka come from; the first that works by default.
    #[arg(long, value_name = "SOURCE")]
    stack: Option<Stack>,
    /// Write the result to this file too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Leave everything running afterwards, print every address and a token, and wait for Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// Passed on to the demo as they are; `-- --help` lists them.
    #[arg(last = true)]
    more: Vec<OsString>,
}

impl Demo {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        // The whole workspace, as for the tests: fewer packages would resolve other features and build everything twice.
        cargo::run(cargo::cargo().args(["build", "--workspace", "--bins"]))?;

        let binaries = binaries()?;
        let mut demo = Command::new(binaries.join("demo"));
        demo.env("BANYAN_BIN_DIR", &binaries);
        if let Some(stack) = self.stack {
            demo.args(["--stack", stack.name()]);
        }
        if let Some(json) = self.json {
            demo.arg("--json").arg(json);
        }
        if self.keep {
            demo.arg("--keep");
        }
        demo.args(self.more);
        Err(become_it(demo))
    }
}
