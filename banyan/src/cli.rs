//! The arguments.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use serde::Serialize;

/// Exit code when the rules or a gate refuse.
pub(crate) const REFUSED: u8 = 1;
/// Exit code when no answer came: nobody is there, or the token is not an operator's. (Bad arguments: 2.)
pub(crate) const FAILED: u8 = 3;

/// Looks at a migration and walks it, over the admin API of the source's controller.
///
/// Exit codes: 0 done, 1 refused (the rule and the way on are printed), 2 bad arguments, 3 no answer.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Cli {
    /// The admin address of a process with the role `controller`, such as http://127.0.0.1:9100.
    #[arg(long, env = "BANYAN_URL", global = true)]
    pub(crate) url: Option<String>,
    /// A token with the role `operator`.
    #[arg(long, env = "BANYAN_TOKEN", hide_env_values = true, global = true)]
    pub(crate) token: Option<String>,
    /// The migration.
    #[arg(long, default_value = "payments", global = true)]
    pub(crate) migration: String,
    /// Prints the answer as it came, in JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Where the migration stands, and what stands before its next step.
    Status,
    /// What could come next, with the gates as they are found now; or, with `--file F --check`, whether a file is a plan.
    Plan {
        /// A plan's file, such as migration.toml.
        #[arg(long, requires = "check")]
        file: Option<PathBuf>,
        /// Checks the file and asks no server.
        #[arg(long, requires = "file")]
        check: bool,
    },
    /// Enters the next stage, or changes the ramp. Gates are asked first.
    Advance(Advance),
    /// Stops all steps forward until `advance --resume`. Births go on; so may a rollback.
    Hold {
        /// Why; shown to whoever tries to advance.
        #[arg(long)]
        reason: String,
    },
    /// Says that you are for entering `sealed` or `removed`, which need two people.
    Approve {
        /// The next stage.
        #[arg(long, value_enum)]
        stage: Stage,
        /// Why, 1 to 500 bytes.
        #[arg(long)]
        reason: String,
    },
    /// Goes back: new keys are born at the source at once.
    Rollback {
        /// Only from this revision of the policy, so that it may be sent again and takes no second step. Left out: the one in
        /// force.
        #[arg(long)]
        revision: Option<i64>,
    },
    /// The keys that can't move now, each with the reason, those that wait longest first.
    Pinned {
        /// The most to print.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=1_000))]
        limit: i64,
    },
    /// Has the source publish what the target lacks. One that is under way, or done, is shown.
    Backfill {
        /// Begins again, from the first key.
        #[arg(long)]
        again: bool,
    },
    /// Compares the copies of both homes, which may take a minute, and keeps what was found for 24 hours.
    Parity,
    /// Has the owners of keys publish their state, so that the other home's copies are mended.
    Repair {
        /// The keys, for payments their ids; 1 to 100.
        #[arg(required = true, num_args = 1..=100)]
        keys: Vec<String>,
    },
    /// Finds SQL in a program's text that names the tables of a schema; asks no server. What touches them in the database, the gate
    /// `verify` of stage `removed` names (`banyan plan`).
    Verify {
        /// The folder of the program's text.
        #[arg(long, value_name = "DIR")]
        code: PathBuf,
        /// The schema that nobody should name any more.
        #[arg(long, value_parser = crate::code::schema)]
        schema: String,
        /// A folder in it that may name them, such as the module that is to be removed; may be repeated.
        #[arg(long, value_name = "DIR")]
        except: Vec<PathBuf>,
    },
    /// Why a key is where it is.
    Why {
        /// The key, for payments their id.
        key: String,
    },
}

#[derive(Debug, clap::Args, Serialize)]
pub(crate) struct Advance {
    /// The stage to enter; `reading` or `ramping` again to change the cohort. Left out with `--resume`: none.
    #[arg(long, value_enum, required_unless_present = "resume")]
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<Stage>,
    /// Of all keys, how many are read (`reading`) or born (`ramping`) at the target. Left out: as it is.
    #[arg(long, requires = "to", value_parser = clap::value_parser!(i64).range(0..=100))]
    #[serde(skip_serializing_if = "Option::is_none")]
    percent: Option<i64>,
    /// A tenant of whom all are; may be repeated. The tenants given replace those before.
    #[arg(long = "tenant", requires = "to", conflicts_with = "no_tenants")]
    #[serde(skip_serializing)]
    tenant: Vec<String>,
    /// Names no tenant any more.
    #[arg(long, requires = "to")]
    #[serde(skip_serializing)]
    no_tenants: bool,
    /// What both of them mean on the wire: left out, they stay as they are.
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    tenants: Option<Vec<String>>,
    /// The business metric that must improve; needed once, to enter `following`, where no plan names it.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    metric: Option<String>,
    /// Lifts a hold; alone it does nothing else, and asks no gate.
    #[arg(long)]
    resume: bool,
    /// Asks the gates and changes nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stage {
    Local,
    Following,
    Shadowing,
    Reading,
    Ramping,
    Primary,
    Sealed,
    Removed,
}

impl Advance {
    /// As it goes over the wire.
    pub(crate) fn wire(mut self) -> Self {
        self.tenants = match (self.no_tenants, self.tenant.is_empty()) {
            (true, _) => Some(Vec::new()),
            (false, false) => Some(std::mem::take(&mut self.tenant)),
            (false, true) => None,
        };
        self
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::{Cli, Command};

    fn wire(arguments: &str) -> String {
        let words = format!("banyan advance {arguments}");
        match Cli::try_parse_from(words.split_whitespace()).unwrap().command {
            Command::Advance(step) => serde_json::to_string(&step.wire()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_left_out_stays_as_it_is() {
        assert_eq!(wire("--to following"), r#"{"to":"following","resume":false,"dry_run":false}"#);
        assert_eq!(
            wire("--to ramping --percent 25 --tenant a --tenant b --dry-run"),
            r#"{"to":"ramping","percent":25,"tenants":["a","b"],"resume":false,"dry_run":true}"#
        );
        assert_eq!(
            wire("--to ramping --no-tenants"),
            r#"{"to":"ramping","tenants":[],"resume":false,"dry_run":false}"#
        );
        assert_eq!(wire("--resume"), r#"{"resume":true,"dry_run":false}"#);
        assert_eq!(wire("--to primary --resume"), r#"{"to":"primary","resume":true,"dry_run":false}"#);
    }

    #[test]
    fn bad_arguments_are_refused_before_anyone_is_asked() {
        for arguments in [
            "",
            "--to ramping --percent 101",
            "--to nowhere",
            "--to ramping --percent many",
            "--resume --percent 5",
            "--resume --tenant a",
            "--resume --no-tenants",
        ] {
            let words = format!("banyan advance {arguments}");
            assert_eq!(Cli::try_parse_from(words.split_whitespace()).unwrap_err().exit_code(), 2, "{words}");
        }
    }

    #[test]
    fn a_plan_is_checked_only_by_its_file() {
        for (words, taken) in [
            ("banyan plan", true),
            ("banyan plan --file migration.toml --check", true),
            ("banyan plan --file migration.toml", false),
            ("banyan plan --check", false),
            ("banyan approve --stage sealed --reason done", true),
            ("banyan approve --stage sealed", false),
        ] {
            assert_eq!(Cli::try_parse_from(words.split_whitespace()).is_ok(), taken, "{words}");
        }
    }
}
