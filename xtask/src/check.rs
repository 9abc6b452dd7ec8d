//! `cargo xtask check`.

use crate::cargo::{self, cargo};

/// Format, then lints, then documentation, then what a registry would get of the published crates; the first that fails
/// ends it.
pub(crate) fn run() -> anyhow::Result<()> {
    cargo::run(cargo().args(["fmt", "--all", "--", "--check"]))?;
    cargo::run(cargo().args(["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]))?;
    let mut clippy = cargo();
    clippy.arg("clippy").args(cargo::REMOVED);
    cargo::run(clippy.args(["--all-targets", "--", "--deny", "warnings"]))?;
    cargo::run(cargo().args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "--deny warnings"))?;
    let slim = ["doc", "--package", "outbox", "--no-deps", "--no-default-features"];
    cargo::run(cargo().args(slim).env("RUSTDOCFLAGS", "--deny warnings"))?;
    // The tree may hold what is not committed yet. `publish = false` stands in the way of a registry, not of this.
    cargo::run(cargo().args(["package", "--package", "outbox", "--allow-dirty", "--no-verify"]))
}
