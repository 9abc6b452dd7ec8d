//! Operators' commands: with the settings of the running process, and a few connections of their own.

use std::sync::Arc;

use anyhow::ensure;
use chassis::Telemetry;
use chassis::database::{PoolOptions, pool};
use clap::Subcommand;
use outbox::Wake;
use payments::{Actor, Order};
use uuid::Uuid;

use crate::app::home;
use crate::migrate::ORIGIN;
use crate::{AtTarget, Config, MIGRATION};

/// Connections of a command.
const CONNECTIONS_MAX: u32 = 3;

/// What operators do beside a running process.
#[derive(Debug, Subcommand)]
pub enum Operate {
    /// Compares the books with the provider's list now, and shows what differs: exit code 0 when nothing is open.
    Reconcile {
        /// Show the last closed differences too.
        #[arg(long)]
        all: bool,
    },
    /// Closes an open difference by a person's word; nothing is booked.
    AcceptDifference {
        /// Its number, as `reconcile` shows it.
        id: i64,
        /// Whose word.
        #[arg(long)]
        by: Actor,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// Ends a command whose outcome the provider does not tell any more; what it contradicts is refused.
    Resolve {
        /// The command's id.
        command: Uuid,
        /// It was done: the payment intent or refund that shows it.
        #[arg(
            long,
            value_name = "OBJECT",
            conflicts_with = "not_done",
            required_unless_present = "not_done"
        )]
        done: Option<String>,
        /// It was not done.
        #[arg(long)]
        not_done: bool,
        /// Who decides.
        #[arg(long)]
        by: Actor,
        /// Why.
        #[arg(long)]
        reason: String,
    },
}

impl From<Operate> for Order {
    fn from(operate: Operate) -> Self {
        match operate {
            Operate::Reconcile { all } => Order::Reconcile { all },
            Operate::AcceptDifference { id, by, reason } => Order::Accept { id, by, reason },
            Operate::Resolve { command, done, by, reason, .. } => {
                Order::Resolve { command, done, by, reason }
            }
        }
    }
}

/// Does what an operator asks, and prints what comes of it.
///
/// # Errors
/// What could not be done, and that differences are open.
pub async fn operate(config: &Config, order: Order, telemetry: Telemetry) -> anyhow::Result<()> {
    let options = PoolOptions::new(format!("{ORIGIN}.operator"), CONNECTIONS_MAX);
    let pool = pool(&config.databases.payments, &options)?;
    let authority = Arc::new(AtTarget(strangler::Authority::new(MIGRATION)));
    let metrics = payments::Metrics::new(&telemetry.meter());
    let home = home(config, (&pool, &Wake::default(), &metrics), authority)?;
    let told = payments::operate(&home, &config.reconcile, order).await;
    pool.close().await;
    let told = told.map_err(said)?;
    print!("{}", told.text);
    ensure!(told.open == 0, "{} differences are open", told.open);
    Ok(())
}

/// A refusal with the rules that were broken, if there are any.
fn said(error: payments::Error) -> anyhow::Error {
    match error {
        payments::Error::Invalid(violations) => {
            let reasons: Vec<String> = violations.into_iter().map(|violation| violation.reason).collect();
            anyhow::anyhow!("refused: {}", reasons.join("; "))
        }
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::{Cli, Command};

    fn order(args: &str) -> Result<Order, clap::error::ErrorKind> {
        let args = ["payments-service"].into_iter().chain(args.split(' '));
        match Cli::try_parse_from(args).map_err(|error| error.kind())?.command {
            Some(Command::Operate(operate)) => Ok(operate.into()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_decision_names_who_and_why_and_one_of_two_ways() {
        let command = "019a0000-0000-7000-8000-000000000001";
        let done = order(&format!("resolve {command} --done pi_1 --by ann --reason seen"));
        assert!(matches!(done, Ok(Order::Resolve { done: Some(object), .. }) if object == "pi_1"));
        let not_done = order(&format!("resolve {command} --not-done --by ann --reason seen"));
        assert!(matches!(not_done, Ok(Order::Resolve { done: None, .. })));
        for wrong in [
            format!("resolve {command} --by ann --reason seen"),
            format!("resolve {command} --done pi_1 --not-done --by ann --reason seen"),
            format!("resolve {command} --not-done --reason seen"),
            "resolve pi_1 --not-done --by ann --reason seen".to_owned(),
            "accept-difference 7 --by ann".to_owned(),
            "accept-difference 7 --by engine --reason seen".to_owned(),
        ] {
            assert!(order(&wrong).is_err(), "{wrong}");
        }
        assert!(matches!(order("reconcile --all"), Ok(Order::Reconcile { all: true })));
        assert!(matches!(
            order("accept-difference 7 --by ann --reason seen"),
            Ok(Order::Accept { id: 7, .. })
        ));
    }
}
