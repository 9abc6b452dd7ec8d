//! What the environment says; the only place in this crate that reads it.

use std::path::PathBuf;

/// The environment of a test run.
pub(crate) struct Config {
    /// `BANYAN_BIN_DIR`: a folder with the binaries under test. Unset: they are built once and taken from the folder of
    /// the running program.
    pub(crate) bin_dir: Option<PathBuf>,
    /// `BANYAN_REMOVED_DIR`: a folder with the monolith that was built without its half of payments. Unset: it is built once.
    pub(crate) removed_dir: Option<PathBuf>,
    /// `CARGO`: the cargo that builds them; set by cargo itself. Default `cargo`.
    pub(crate) cargo: String,
    /// `PATH`, handed on to every process.
    pub(crate) path: String,
    /// `RUST_LOG`, handed on to every process. Default `info`.
    pub(crate) log: String,
    /// `BANYAN_SEED`: what random choices of stories come from, a whole number. Unset: each run has its own, and prints it.
    pub(crate) seed: Option<String>,
    /// `BANYAN_SEEDS`: how many seeds, or which (`5..9`), a story by chance is told for. Unset: 20.
    pub(crate) seeds: Option<String>,
}

impl Config {
    pub(crate) fn from_env() -> Self {
        Self {
            bin_dir: variable("BANYAN_BIN_DIR").map(PathBuf::from),
            removed_dir: variable("BANYAN_REMOVED_DIR").map(PathBuf::from),
            cargo: variable("CARGO").unwrap_or_else(|| "cargo".into()),
            path: variable("PATH").unwrap_or_default(),
            log: variable("RUST_LOG").unwrap_or_else(|| "info".into()),
            seed: variable("BANYAN_SEED"),
            seeds: variable("BANYAN_SEEDS"),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this file is the one that reads the environment")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
