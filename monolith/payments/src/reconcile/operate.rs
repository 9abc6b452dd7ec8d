//! What an operator asks of a home: commands of both programs.

use std::fmt::Write as _;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::report::unshown;
use super::{ReconcileConfig, Reconciled, Reconciler, accept, differences, table};
use crate::effect::{Resolution, resolve};
use crate::{Actor, Error, Home};

/// How long a run of someone else is waited for.
const TURN_WAIT: Duration = Duration::from_secs(60);
/// How often it is asked whether that has ended.
const TURN_LOOK: Duration = Duration::from_millis(200);

/// What operators do beside a running process.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Order {
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

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Lines, each ended.
    pub text: String,
    /// Differences that are open, of those that were asked for.
    pub open: usize,
}

/// Does what is asked.
///
/// # Errors
/// [`Error::Unavailable`] when the provider can't be asked, or another reconciliation does not end; [`Error::NotFound`] for a
/// difference or command that is not open; [`Error::Invalid`] when the provider contradicts a decision.
pub async fn operate(home: &Home, config: &ReconcileConfig, order: Order) -> Result<Told, Error> {
    match order {
        Order::Reconcile { all } => {
            let lines = compared(&Reconciler::new(home.clone(), config.clone())).await?;
            let found = differences(home, all).await?;
            let open = found.iter().filter(|difference| difference.closed.is_none()).count();
            let mut text = format!("{lines} lines of the provider's list were compared\n{}", table(&found));
            let more = unshown(home, open).await?;
            if more > 0 {
                // Writing to a string can't fail.
                let _ = writeln!(text, "and {more} more are open");
            }
            Ok(Told { text, open: open + more })
        }
        Order::AcceptDifference { id, by, reason } => {
            let accepted = accept(home, id, &by, &reason).await?;
            Ok(Told { text: format!("difference {id} is closed\n{}", table(&[accepted])), open: 0 })
        }
        Order::Resolve { command, done, by, reason, .. } => {
            let payment = resolve(home, &Resolution { command, done, by, reason }).await?;
            let text = format!("command {command} has ended: payment {} is {}\n", payment.id, payment.status);
            Ok(Told { text, open: 0 })
        }
    }
}

/// Compares, after whoever is at it, and returns how many lines there were. Only the waiting has a bound: a run that began is not
/// given up.
async fn compared(reconciler: &Reconciler) -> Result<i64, Error> {
    let until = Instant::now() + TURN_WAIT;
    loop {
        match reconciler.once().await? {
            Reconciled::Whole { lines } => return Ok(lines),
            Reconciled::Busy if Instant::now() < until => tokio::time::sleep(TURN_LOOK).await,
            Reconciled::Busy => {
                return Err(Error::Unavailable("another reconciliation does not end".to_owned()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use clap::error::ErrorKind;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(subcommand)]
        order: Order,
    }

    fn order(args: &str) -> Result<Order, ErrorKind> {
        let args = ["program"].into_iter().chain(args.split(' '));
        Program::try_parse_from(args).map(|program| program.order).map_err(|error| error.kind())
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
            Ok(Order::AcceptDifference { id: 7, .. })
        ));
    }
}
