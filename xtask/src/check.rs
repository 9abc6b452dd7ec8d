//! `cargo xtask check`.

use crate::cargo::{self, cargo};

/// Format, then lints, then documentation; the first that fails ends it.
pub(crate) fn run() -> anyhow::Result<()> {
    cargo::run(cargo().args(["fmt", "--all", "--", "--check"]))?;
    cargo::run(cargo().args(["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]))?;
    cargo::run(cargo().args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "--deny warnings"))
}
