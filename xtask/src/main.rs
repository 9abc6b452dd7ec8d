//! The commands of this repository: `cargo xtask demo | test | check | bench`.
//!
//! It depends on no crate of the workspace; it builds their binaries and becomes the last one it starts, so that
//! Ctrl-C, signals and the exit code reach it directly.

mod bench;
mod cargo;
mod check;
mod demo;
mod stack;
mod test;

use clap::{Parser, Subcommand};

/// The commands of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::Demo),
    Test(test::Test),
    #[command(hide = true)]
    TestInside(test::Inside),
    /// Format, lints and documentation, as CI has it.
    Check,
    Bench(bench::Bench),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Demo(demo) => demo.run(),
        Command::Test(test) => test.run(),
        Command::TestInside(inside) => inside.run(),
        Command::Check => check::run(),
        Command::Bench(bench) => bench.run(),
    }
}
