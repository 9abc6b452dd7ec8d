//! The command line.

use clap::{Parser, Subcommand, ValueEnum};

/// The payments service: payments that were extracted from the monolith.
///
/// Settings come from the environment; `--help` lists them. It never migrates its database on its own: run
/// `payments-service migrate` first.
#[derive(Debug, Parser)]
#[command(name = "payments-service", version)]
pub struct Cli {
    /// Which parts this process runs, separated by commas. The parts scale and fail apart.
    #[arg(long = "role", value_enum, value_delimiter = ',', default_value = "all")]
    roles: Vec<Role>,
    /// What to do instead of running.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do instead of running.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Brings the database and the topic up to date, then ends. May be repeated.
    Migrate,
    /// An operator's command.
    #[command(flatten)]
    Operate(payments::Order),
}

/// A part of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    /// All of them.
    All,
    /// The gRPC interface.
    Serve,
    /// Sends what the outbox holds.
    Relay,
    /// Applies events and does what is open: the replica and the engine.
    Inbox,
}

/// The parts that a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// The gRPC interface.
    pub serve: bool,
    /// The relay.
    pub relay: bool,
    /// The replica and the engine.
    pub inbox: bool,
}

impl Cli {
    /// The parts asked for.
    pub fn roles(&self) -> Roles {
        let has = |role| self.roles.contains(&Role::All) || self.roles.contains(&role);
        Roles { serve: has(Role::Serve), relay: has(Role::Relay), inbox: has(Role::Inbox) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(args: &[&str]) -> Roles {
        Cli::try_parse_from(["payments-service"].iter().chain(args)).unwrap().roles()
    }

    #[test]
    fn roles_add_up_and_default_to_all() {
        let all = Roles { serve: true, relay: true, inbox: true };
        assert_eq!(roles(&[]), all);
        assert_eq!(roles(&["--role", "serve", "--role", "inbox"]), Roles { relay: false, ..all });
        assert!(Cli::try_parse_from(["payments-service", "--role", "web"]).is_err());
    }
}
