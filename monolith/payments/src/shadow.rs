//! The shadow of decisions: what this home would have made of the other home's commands. Pure but for its counts, which never keep an
//! event from being applied. `docs/shadow.md` tells what it shows.

mod compare;
mod counts;
mod mutant;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use outbox::BoxError;
use proto::events as wire;
use sqlx::PgPool;
use time::OffsetDateTime;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use self::compare::{Judged, Said};
use self::counts::Recent;
use crate::{Change, Command, Error, Outcome, Payment, PaymentEvent, Transaction, events, store};

pub(crate) use self::counts::Counts;
#[cfg(test)]
pub(crate) use self::{
    compare::judge_with,
    mutant::{MUTANTS, Mutant},
};

/// How often counts are written.
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// How often what is too old is deleted, in writes.
const FORGET_EVERY: u32 = 600;

/// Compares, and counts in memory until its task has written it. Clones share it.
#[derive(Debug, Clone)]
pub struct Shadow(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    version: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    counts: Counts,
    recent: Recent,
}

/// How a decision of this home compares with the other one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// The same.
    Equal,
    /// An amount or a posting differs.
    Money,
    /// Something else differs.
    Structure,
    /// There is nothing to compare with.
    Undecidable,
}

crate::payment::words!(Class {
    Equal = "equal",
    Money = "money",
    Structure = "structure",
    Undecidable = "undecidable",
});

/// What was found, by class and outcome, by mutant, and of the latest that were not equal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decisions {
    /// Class, outcome and how many.
    pub counts: Vec<(Class, String, i64)>,
    /// All mutants of this version.
    pub mutants: Vec<Tried>,
    /// At most 100, the latest first.
    pub samples: Vec<Differing>,
}

/// A decision made wrong on purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// Its name.
    pub name: &'static str,
    /// How often it was told from what came.
    pub caught: i64,
    /// How often it was not.
    pub missed: i64,
    /// The outcomes that it can run on.
    pub outcomes: &'static [&'static str],
}

/// A decision that was not equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Differing {
    /// Of which payment.
    pub payment: proto::PaymentId,
    /// Of which version of its stream.
    pub version: i64,
    /// How it compares.
    pub class: Class,
    /// What differs.
    pub text: String,
}

/// An event of the other home that a command caused.
#[derive(Debug)]
pub(crate) struct Came {
    pub(crate) change: Change,
    /// The state after it, at its version.
    pub(crate) payment: Payment,
    pub(crate) ledger: Vec<Transaction>,
    pub(crate) command: Option<wire::PaymentCommand>,
    pub(crate) outcome: Option<wire::ProviderOutcome>,
}

impl Shadow {
    /// Of a program of this version (1 to 100 bytes): what another version found does not count for it.
    pub fn new(version: &str) -> Self {
        Self(Arc::new(Inner { version: version.to_owned(), state: Mutex::default() }))
    }

    /// Decides anew, from the copy before the event, what came, and counts how the two compare. An event that is applied again
    /// after a failure is counted once.
    pub(crate) fn compare(&self, before: Option<&Payment>, came: Came) {
        let (payment, version) = (came.payment.id, came.payment.version);
        let judged = judge(before, came);
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.recent.is_new(payment, version) {
            state.counts.add(payment, version, judged);
        }
    }

    /// Writes the counts each second, with the module's own pool, until the shutdown, and then once more. A database that is away is
    /// tried again, with what does not count in favour; what is not written when the process ends is lost.
    pub async fn run(self, pool: PgPool, shutdown: CancellationToken) {
        let mut tick = tokio::time::interval(FLUSH_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut writes = 0_u32;
        loop {
            let ends = tokio::select! {
                () = shutdown.cancelled() => true,
                _ = tick.tick() => false,
            };
            if let Err(error) = self.flush(&pool).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "what was decided in the shadow could not be written; trying again");
            }
            if ends {
                return;
            }
            if writes.is_multiple_of(FORGET_EVERY)
                && let Err(error) = store::forget_decisions(&pool).await
            {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "old counts of decisions could not be deleted; trying again later");
            }
            writes = writes.wrapping_add(1);
        }
    }

    /// Writes what is counted. What may not have been written is kept, but for what counts in favour: the commit may have been done.
    pub(crate) async fn flush(&self, pool: &PgPool) -> Result<(), Error> {
        let counts = self.with(std::mem::take);
        if counts.is_empty() {
            return Ok(());
        }
        let written = store::keep_decisions(pool, &self.0.version, &counts).await;
        if written.is_err() {
            self.with(|kept| kept.merge(counts.against()));
        }
        written
    }

    /// What is counted and not written.
    #[cfg(test)]
    pub(crate) fn take(&self) -> Counts {
        self.with(std::mem::take)
    }

    fn with<T>(&self, act: impl FnOnce(&mut Counts) -> T) -> T {
        act(&mut self.0.state.lock().unwrap_or_else(PoisonError::into_inner).counts)
    }
}

/// What a version of the program found since a time, from the whole ten seconds of it on.
///
/// # Errors
/// [`Error::Database`]; [`Error::Corrupt`] for a row that can't be read.
pub async fn decisions(pool: &PgPool, version: &str, since: OffsetDateTime) -> Result<Decisions, Error> {
    let counts = store::decisions(pool, version, since).await?;
    let tried = store::decision_mutants(pool, version, since).await?;
    let samples = store::decision_samples(pool, version, since).await?;
    let mutants = mutant::MUTANTS.iter().map(|mutant| {
        let found = tried.iter().find(|(name, ..)| name == mutant.name);
        let (caught, missed) = found.map_or((0, 0), |(_, caught, missed)| (*caught, *missed));
        Tried { name: mutant.name, caught, missed, outcomes: mutant.outcomes }
    });
    Ok(Decisions { counts, mutants: mutants.collect(), samples })
}

/// What the commands that this home ended in the last 7 days came to, each kind once, in the words of [`Decisions::counts`]; of at
/// most the 100,000 latest commands.
///
/// # Errors
/// [`Error::Database`].
pub async fn outcomes(pool: &PgPool) -> Result<Vec<String>, Error> {
    store::outcomes(pool).await
}

fn judge(before: Option<&Payment>, came: Came) -> Judged {
    let Came { change, payment, ledger, command, outcome } = came;
    let came = Said { change, payment, ledger };
    let undecidable = |why: &str| Judged::undecidable(&came, why);
    let Some(before) = before.filter(|before| before.version + 1 == came.payment.version) else {
        return undecidable("the copy here is not at the version before");
    };
    let (Some(command), Some(outcome)) = (command, outcome) else {
        return undecidable("the event has no command or no outcome");
    };
    match read(command, outcome) {
        Ok((command, outcome)) => compare::judge(before, &came, &command, &outcome),
        Err(error) => undecidable(&error.to_string()),
    }
}

fn read(
    command: wire::PaymentCommand,
    outcome: wire::ProviderOutcome,
) -> Result<(Command, Outcome), BoxError> {
    Ok((events::read_command(command)?, events::read_outcome(outcome)?))
}

impl From<PaymentEvent> for Said {
    fn from(event: PaymentEvent) -> Self {
        Self { change: event.change, payment: event.payment, ledger: event.ledger.into_iter().collect() }
    }
}
