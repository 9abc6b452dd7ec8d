//! The command line of `stack`.

use std::ffi::OsString;

use clap::{Parser, Subcommand};
use stack::Choice;

/// PostgreSQL and Kafka on this machine: servers that run already, containers, or processes of its own.
///
/// Whatever is started goes when this command ends, also when it is killed.
#[derive(Parser)]
#[command(name = "stack", version, after_help = ENVIRONMENT)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Bring both up, print their addresses, and wait for Ctrl-C.
    Up {
        /// Where they come from.
        #[arg(long = "stack", value_name = "SOURCE", env = "BANYAN_STACK", default_value = "auto")]
        choice: Choice,
    },
    /// Bring both up, run a command with DATABASE_URL and KAFKA_BOOTSTRAP_SERVERS set, take both down, and end
    /// with the command's exit code.
    Run {
        /// Where they come from.
        #[arg(long = "stack", value_name = "SOURCE", env = "BANYAN_STACK", default_value = "auto")]
        choice: Choice,
        /// The command and its arguments.
        #[arg(required = true, last = true)]
        command: Vec<OsString>,
    },
}

const ENVIRONMENT: &str = "\
Environment:
  BANYAN_STACK             the source, when --stack is not given: external, docker, native, auto
  DATABASE_URL, KAFKA_BOOTSTRAP_SERVERS
                           the servers of `external`; the first is a superuser's
  DOCKER_HOST              the engine of `docker`, when it is not at a usual socket
  BANYAN_POSTGRES_IMAGE    its image of PostgreSQL [default: postgres:17]
  BANYAN_KAFKA_IMAGE       its image of Kafka [default: apache/kafka:4.1.0]
  BANYAN_POSTGRES_BIN      the folder of PostgreSQL's programs for `native`, or `none`: take those from Maven,
                           whatever is installed
  BANYAN_STACK_CACHE       where fetched jars are kept [default: target/stack, else ~/.cache/banyan]
  RUST_LOG                 what to log on standard error [default: info]";
