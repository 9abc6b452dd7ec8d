//! `cargo xtask test`.

use std::fs;
use std::process::Command;

use anyhow::Context;

use crate::cargo::{self, become_it, binaries};
use crate::stack::Stack;

/// More settings of the PostgreSQL that is started.
const SETTINGS: &str = "BANYAN_POSTGRES_SETTINGS";
/// Statements are counted: the gate `verify` finds who reads by that.
const COUNTING: &str = "shared_preload_libraries=pg_stat_statements";

/// Run all tests on one PostgreSQL and one Kafka, which are brought up for them.
///
/// The servers and everything else that a run makes have names and ports of their own, so that two runs at once do
/// not meet. The monolith without its half of payments is tested first. Exit code: that of `cargo test`, 1 when it fails for
/// that monolith.
#[derive(clap::Args)]
pub(crate) struct Test {
    /// Where PostgreSQL and Kafka come from; by default what BANYAN_STACK says, else the first that works.
    #[arg(long, value_name = "SOURCE")]
    stack: Option<Stack>,
    #[command(flatten)]
    inside: Inside,
}

// The tests themselves, inside a stack. No documentation comment: it would be shown as that of `test`.
#[derive(clap::Args)]
pub(crate) struct Inside {
    /// Only tests of this package; may be repeated.
    #[arg(long, short, value_name = "PACKAGE")]
    package: Vec<String>,
    /// Only tests whose names contain one of these words; one that no name contains is refused.
    words: Vec<String>,
}

impl Test {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let binaries = binaries()?;
        let mut stack = Command::new(binaries.join("stack"));
        if self.inside.has("tests") {
            let removed = cargo::removed()?;
            // With the one test that is asked of it, for the sake of the features below.
            cargo::run(cargo::cargo().arg("build").args(cargo::REMOVED).args(["--bins", "--test", "shop"]))?;
            fs::create_dir_all(&removed).with_context(|| format!("cannot make {}", removed.display()))?;
            fs::copy(binaries.join("monolith"), removed.join("monolith"))
                .context("cannot copy the monolith")?;
            stack.env("BANYAN_REMOVED_DIR", removed);
        }
        // The tests start binaries of other packages too. With the tests, so that dependencies are built once: without them
        // cargo would choose other features.
        cargo::run(cargo::cargo().args(["build", "--workspace", "--bins", "--tests"]))?;
        self.inside.names_tests()?;
        stack.current_dir(cargo::root()).env("BANYAN_BIN_DIR", &binaries);
        stack.arg("run");
        if let Some(source) = self.stack {
            stack.args(["--stack", source.name()]);
        }
        if std::env::var_os(SETTINGS).is_none() {
            stack.env(SETTINGS, COUNTING);
        }
        // By name: the build above may have replaced the file that we are.
        stack.arg("--").arg(binaries.join("xtask"));
        stack.arg("test-inside");
        for package in &self.inside.package {
            stack.args(["--package", package]);
        }
        stack.arg("--").args(self.inside.words);
        Err(become_it(stack))
    }
}

impl Inside {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        if self.has("app") {
            let mut removed = cargo::cargo();
            removed.arg("test").args(cargo::REMOVED).args(["--no-fail-fast", "--test", "shop"]);
            cargo::run(removed.arg("--").args(&self.words))?;
        }
        let mut tests = self.tests();
        tests.arg("--no-fail-fast");
        if !self.words.is_empty() {
            tests.arg("--").args(self.words);
        }
        Err(become_it(tests))
    }

    /// Refuses a word that is in no test's name: nothing would run for it, and all would seem well.
    fn names_tests(&self) -> anyhow::Result<()> {
        if self.words.is_empty() {
            return Ok(());
        }
        let mut list = self.tests();
        list.args(["--tests", "--", "--list", "--format", "terse"]);
        let mut names = cargo::said(&mut list)?;
        if self.has("app") {
            let mut removed = cargo::cargo();
            removed
                .arg("test")
                .args(cargo::REMOVED)
                .args(["--test", "shop", "--", "--list", "--format", "terse"]);
            names.push_str(&cargo::said(&mut removed)?);
        }
        let unknown = unknown(&names, &self.words);
        anyhow::ensure!(
            unknown.is_empty(),
            "no test has {} in its name; `cargo test -- --list` shows all names",
            unknown.join(", ")
        );
        Ok(())
    }

    /// `cargo test` for the packages that are asked for.
    fn tests(&self) -> Command {
        let mut tests = cargo::cargo();
        tests.arg("test");
        if self.package.is_empty() {
            tests.arg("--workspace");
        }
        for package in &self.package {
            tests.args(["--package", package]);
        }
        tests
    }

    /// Whether tests of a package are asked for.
    fn has(&self, package: &str) -> bool {
        self.package.is_empty() || self.package.iter().any(|asked| asked == package)
    }
}

/// The words that are in no name of a list of tests. What begins with a dash is an option of the tests.
fn unknown<'a>(list: &str, words: &'a [String]) -> Vec<&'a str> {
    let names: Vec<&str> = list.lines().filter_map(|line| line.strip_suffix(": test")).collect();
    let words = words.iter().map(String::as_str).filter(|word| !word.starts_with('-'));
    words.filter(|word| !names.iter().any(|name| name.contains(word))).collect()
}

#[cfg(test)]
mod tests {
    use super::unknown;

    #[test]
    fn a_word_that_is_in_no_name_is_found() {
        let list = "ordering::late_commits: test\nrights::all: test\npublishing: benchmark\n";
        let words = ["rights", "late", "publishing", "--nocapture", "order by"].map(str::to_owned);
        assert_eq!(unknown(list, &words), ["publishing", "order by"]);
    }
}
