//! What an operator asks of a home, as both programs' commands.

use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::{ReconcileConfig, Reconciled, Reconciler, accept, differences, table};
use crate::effect::{Resolution, resolve};
use crate::{Actor, Error, Home};

/// How long a run of someone else is waited for.
const TURN_WAIT: Duration = Duration::from_secs(60);
/// How often it is asked whether that has ended.
const TURN_LOOK: Duration = Duration::from_millis(200);

/// What is asked.
#[derive(Debug, Clone)]
pub enum Order {
    /// To compare everything now, and to show what is open.
    Reconcile {
        /// The last closed ones too.
        all: bool,
    },
    /// To close a difference by a person's word.
    Accept {
        /// Its number.
        id: i64,
        /// Whose word.
        by: Actor,
        /// Why.
        reason: String,
    },
    /// To end a command whose outcome the provider does not tell any more.
    Resolve {
        /// The command.
        command: Uuid,
        /// The provider's object that shows that it was done; `None`: it was not.
        done: Option<String>,
        /// Who decides.
        by: Actor,
        /// Why.
        reason: String,
    },
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Lines, each ended.
    pub text: String,
    /// Differences that were shown and are open.
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
            Ok(Told {
                text: format!("{lines} lines of the provider's list were compared\n{}", table(&found)),
                open,
            })
        }
        Order::Accept { id, by, reason } => {
            let accepted = accept(home, id, &by, &reason).await?;
            Ok(Told { text: format!("difference {id} is closed\n{}", table(&[accepted])), open: 0 })
        }
        Order::Resolve { command, done, by, reason } => {
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
