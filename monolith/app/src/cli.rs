//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};

/// The shop's monolith: products, orders, payments and notifications in one program.
///
/// Settings come from the environment; `--help` lists them. It never migrates its database on its own: run
/// `monolith migrate` first.
#[derive(Debug, Parser)]
#[command(name = "monolith", version)]
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
    /// Brings the database and the topics up to date, then ends. May be repeated.
    Migrate(MigrateArgs),
    /// Looks at the provider's notices that nobody has taken, and decides on them.
    #[command(subcommand)]
    Webhooks(WebhooksCommand),
    /// An operator's command.
    #[cfg(feature = "local-payments")]
    #[command(flatten)]
    Operate(::payments::Order),
}

/// What to do with the provider's notices.
#[derive(Debug, Subcommand)]
pub enum WebhooksCommand {
    /// Lists the newest: of one state, or every open one.
    List {
        /// waiting, early, surprise, unplaced, applied, ignored or dismissed.
        #[arg(long)]
        state: Option<webhooks::State>,
        /// The most to list.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=webhooks::LIST_MAX))]
        limit: i64,
    },
    /// Has an open one tried again at once, with all its time before it.
    Retry {
        /// The provider's id of the event.
        id: String,
    },
    /// Ends an open one: nothing is to be done. Who said so and why stays in its row.
    Dismiss {
        /// The provider's id of the event.
        id: String,
        /// Who decides.
        #[arg(long)]
        by: String,
        /// Why.
        #[arg(long)]
        reason: String,
    },
}

/// Arguments of `migrate`.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// Gives a tenant the demo products; may be repeated.
    #[arg(long, value_name = "TENANT")]
    pub seed: Vec<String>,
}

/// A part of the monolith.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// All of them.
    All,
    /// The HTTP API.
    Web,
    /// Sends what the outbox holds.
    Relay,
    /// Applies events: the modules' handlers, the replica of payments and the payments engine.
    Inbox,
    /// Runs the migration of payments and its admin API.
    Controller,
}

/// The parts that a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// The HTTP API.
    pub web: bool,
    /// The relay.
    pub relay: bool,
    /// Handlers, replica, engine.
    pub inbox: bool,
    /// The controller.
    pub controller: bool,
}

impl Cli {
    /// The parts asked for.
    pub fn roles(&self) -> Roles {
        let has = |role| self.roles.contains(&Role::All) || self.roles.contains(&role);
        Roles {
            web: has(Role::Web),
            relay: has(Role::Relay),
            inbox: has(Role::Inbox),
            controller: has(Role::Controller),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(args: &[&str]) -> Roles {
        Cli::try_parse_from(["monolith"].iter().chain(args)).unwrap().roles()
    }

    #[test]
    fn roles_add_up_and_default_to_all() {
        let all = Roles { web: true, relay: true, inbox: true, controller: true };
        assert_eq!(roles(&[]), all);
        let some = Roles { relay: false, ..all };
        assert_eq!(roles(&["--role", "web,inbox", "--role", "controller"]), some);
        assert!(Cli::try_parse_from(["monolith", "--role", "wep"]).is_err());
    }
}
