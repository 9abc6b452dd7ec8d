//! Calling cargo, and becoming the last command.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;

/// The cargo that called us, at the root of the workspace. What it told us about our own package is not passed on: build
/// scripts look at it, and dependencies would be built again whenever cargo is called with us and without us in turn.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    let ours = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(ours)) {
        command.env_remove(name);
    }
    command
}

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Where binaries of a build without `--release` go. We are one ourselves, wherever `CARGO_TARGET_DIR` points.
pub(crate) fn binaries() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot tell where this program is")?;
    Ok(own.parent().context("this program is in no folder")?.to_owned())
}

/// What cargo is told to build the monolith without its half of payments. Features are those of a whole call; in one over the whole
/// workspace all else keeps its own, so that only the monolith is built once more.
pub(crate) const REMOVED: [&str; 2] = ["--workspace", "--no-default-features"];

/// Where a copy of that monolith is kept: beside [`binaries`], where the next build puts the whole one in its place.
pub(crate) fn removed() -> anyhow::Result<PathBuf> {
    Ok(binaries()?.parent().context("the folder of programs is in no folder")?.join("removed"))
}

/// Runs a command to its end; its failure is ours.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let line = line(command);
    eprintln!("xtask: {line}");
    let status = command.status().with_context(|| format!("cannot start `{line}`"))?;
    anyhow::ensure!(status.success(), "`{line}` failed ({status})");
    Ok(())
}

/// Runs a command to its end and returns what it wrote to its standard output; its failure is ours.
pub(crate) fn said(command: &mut Command) -> anyhow::Result<String> {
    let line = line(command);
    eprintln!("xtask: {line}");
    let output =
        command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot start `{line}`"))?;
    anyhow::ensure!(output.status.success(), "`{line}` failed ({})", output.status);
    String::from_utf8(output.stdout).with_context(|| format!("`{line}` wrote no text"))
}

/// Becomes the command; comes back only when it can't be started.
pub(crate) fn become_it(mut command: Command) -> anyhow::Error {
    let line = line(&command);
    eprintln!("xtask: {line}");
    anyhow::Error::new(command.exec()).context(format!("cannot start `{line}`"))
}

fn line(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_else(|| command.get_program());
    std::iter::once(program)
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}
