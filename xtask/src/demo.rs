//! `cargo xtask demo`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;

use crate::cargo::{self, become_it, binaries};
use crate::stack::Stack;

/// Move payments from the monolith to the service, back and there again, under load, and check every promise.
///
/// Builds the programs as they would be deployed (release; the first build takes several minutes), brings PostgreSQL
/// and Kafka up, writes payments from before, starts provider, monolith, relay and service as processes, sends live
/// traffic, and walks the migration through its stages to `primary`, back and forward again, killing processes on the
/// way. It ends with a table made from the databases, the topic and the provider's journal: accepted, charged, lost,
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
    /// Take the programs that the tests build too: no second build, and a slower walk.
    #[arg(long)]
    debug_build: bool,
    /// Passed on to the demo as they are; `-- --help` lists them.
    #[arg(last = true)]
    more: Vec<OsString>,
}

impl Demo {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        // The whole workspace, as for the tests: fewer packages would resolve other features and build everything twice.
        let mut build = cargo::cargo();
        build.args(["build", "--workspace", "--bins"]);
        if !self.debug_build {
            build.arg("--release");
        }
        cargo::run(&mut build)?;

        let binaries = self.binaries()?;
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

    /// We lie in the folder of programs without optimization; the other one is beside it, wherever `CARGO_TARGET_DIR` points.
    fn binaries(&self) -> anyhow::Result<PathBuf> {
        let own = binaries()?;
        if self.debug_build {
            return Ok(own);
        }
        Ok(own.parent().context("the programs are in no folder")?.join("release"))
    }
}
