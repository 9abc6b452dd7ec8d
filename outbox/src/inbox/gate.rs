//! The gate in front of one handler: per key, versions 1, 2, 3 ... once each.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt as _;
use sqlx::{PgPool, postgres::PgTransaction};

use super::{
    InboxOptions,
    refill::{Refilling, close_gaps},
    verdict::{chain, is_passing, is_passing_in},
};
use crate::{
    Error, Topic,
    envelope::Envelope,
    handler::{Effect, Erased},
    replica,
    store::{self, Parking},
};

/// What stands behind a gate.
pub(crate) enum Kind {
    /// A plain handler.
    Handler,
    /// A replica at the home that publishes as `module`.
    Replica { module: String },
}

/// How an event was dealt with. Each is final for the record that brought it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dealt {
    Applied,
    /// A kind without a handler.
    Ignored,
    /// A replica met an event of its own home.
    Own,
    Duplicate,
    Conflict,
    /// It waits in the database, for an earlier version or for its handler.
    Parked,
    /// A replica met the key in the middle; a snapshot will carry this event's effect.
    Awaiting,
}

/// One attempt at an event.
pub(crate) enum Attempt {
    Dealt(Dealt, Waiting),
    /// An earlier version is missing.
    Early {
        applied: i64,
    },
    /// The handler's verdict.
    Refused(String),
    /// The database could not run it.
    Passing(String),
}

/// Whether events of this key are parked.
pub(crate) type Waiting = bool;

pub(crate) struct Gate {
    pub(crate) pool: PgPool,
    pub(crate) kind: Kind,
    pub(crate) handler: Arc<dyn Erased>,
    options: InboxOptions,
    refilling: Option<Refilling>,
}

impl Gate {
    pub(crate) fn new(pool: PgPool, kind: Kind, handler: Arc<dyn Erased>) -> Self {
        Self { pool, kind, handler, options: InboxOptions::default(), refilling: None }
    }

    pub(crate) fn bound(&mut self, options: &InboxOptions, refilling: Option<Refilling>) {
        self.options = options.clone();
        self.refilling = refilling;
    }

    /// Asks the log, if there is one, for what keys miss.
    pub(crate) async fn refill(&self) -> Result<(), Error> {
        match &self.refilling {
            Some(refilling) => close_gaps(self, refilling).await,
            None => Ok(()),
        }
    }

    pub(crate) fn topic(&self) -> Topic {
        self.handler.topic()
    }

    pub(crate) fn name(&self) -> &'static str {
        self.handler.name()
    }

    /// Deals with an event that was read from the log.
    ///
    /// # Errors
    /// The record must be read again: the database is down or `parked_max` is reached. Or a fault that waiting can't mend.
    pub(crate) async fn deal(&self, event: &Envelope) -> Result<Dealt, Error> {
        loop {
            let parking = match self.persist(event).await? {
                Attempt::Dealt(dealt, waiting) => {
                    if waiting {
                        self.drain(&event.topic, &event.key).await?;
                    }
                    return Ok(dealt);
                }
                Attempt::Early { applied: 0 } if self.awaits_snapshot(event).await? => {
                    return Ok(Dealt::Awaiting);
                }
                Attempt::Early { .. } => ("early", None),
                Attempt::Refused(error) => ("refused", Some(error)),
                Attempt::Passing(error) => ("failed", Some(error)),
            };
            if let Some(dealt) = self.park(event, parking).await? {
                return Ok(dealt);
            }
        }
    }

    /// Marks a key that a replica met in the middle. Not when its beginning is only parked.
    async fn awaits_snapshot(&self, event: &Envelope) -> Result<bool, Error> {
        if matches!(self.kind, Kind::Handler) {
            return Ok(false);
        }
        let marked = store::await_snapshot(&self.pool, self.name(), event).await?;
        if marked {
            tracing::error!(
                handler = self.name(),
                key = event.key,
                version = event.version,
                "the replica met a key in the middle; it waits for a snapshot"
            );
        }
        Ok(marked)
    }

    /// Tries an event, and again a bounded number of times while only the database is in the way.
    async fn persist(&self, event: &Envelope) -> Result<Attempt, Error> {
        let mut delay = self.options.passing_delay;
        for _ in 1..self.options.passing_max {
            match self.attempt(event).await? {
                Attempt::Passing(error) => {
                    tracing::warn!(handler = self.name(), key = event.key, error, "trying an event again");
                    tokio::time::sleep(delay).await;
                    delay *= 2;
                }
                other => return Ok(other),
            }
        }
        self.attempt(event).await
    }

    async fn attempt(&self, event: &Envelope) -> Result<Attempt, Error> {
        match self.transact(event).await {
            Err(Error::Database(error)) if is_passing(&error) => Ok(Attempt::Passing(chain(&error))),
            other => other,
        }
    }

    /// The gate, the effect and the commit.
    async fn transact(&self, event: &Envelope) -> Result<Attempt, Error> {
        let mut tx = self.pool.begin().await?;
        let attempt = match &self.kind {
            Kind::Handler => self.admit(&mut tx, event).await?,
            Kind::Replica { module } => replica::admit(self, &mut tx, event, module).await?,
        };
        if let Attempt::Dealt(dealt, waiting) = attempt {
            if waiting {
                store::unpark(&mut tx, self.name(), &event.topic, &event.key).await?;
            }
            if let Err(error) = tx.commit().await {
                return uncommitted(error);
            }
            if dealt == Dealt::Conflict {
                self.alarm(event);
            }
            return Ok(Attempt::Dealt(dealt, waiting));
        }
        tx.rollback().await?;
        Ok(attempt)
    }

    /// Moves the cursor by one and runs the effect.
    pub(crate) async fn admit(&self, tx: &mut PgTransaction<'_>, event: &Envelope) -> Result<Attempt, Error> {
        let gate = store::admit(tx, self.name(), event).await?;
        let waiting = gate.waiting > 0;
        Ok(match gate.verdict.as_str() {
            // It waits for what an operator put in its place; parking it finds that there.
            "apply" if waiting && store::is_replaced(tx, self.name(), event).await? => {
                Attempt::Early { applied: event.version - 1 }
            }
            "apply" => self.apply(tx, event, waiting).await?,
            "duplicate" => Attempt::Dealt(Dealt::Duplicate, waiting),
            "conflict" => Attempt::Dealt(Dealt::Conflict, waiting),
            _ => Attempt::Early { applied: gate.applied },
        })
    }

    /// Runs the effect. A panic is the handler's verdict too: the event would bring it back at each restart.
    pub(crate) async fn apply(
        &self,
        tx: &mut PgTransaction<'_>,
        event: &Envelope,
        waiting: Waiting,
    ) -> Result<Attempt, Error> {
        let effect =
            AssertUnwindSafe(self.handler.apply(tx, event.meta(), &event.payload)).catch_unwind().await;
        match effect {
            Ok(Ok(Effect::Applied)) => {}
            Ok(Ok(Effect::Ignored)) => return Ok(Attempt::Dealt(Dealt::Ignored, waiting)),
            Ok(Err(error)) if is_passing_in(&error) => return Ok(Attempt::Passing(chain(&*error))),
            Ok(Err(error)) => return Ok(Attempt::Refused(chain(&*error))),
            Err(_) => return Ok(Attempt::Refused("the handler panicked".into())),
        }
        // A handler that swallowed a database error leaves an aborted transaction, and its commit would roll back in silence.
        if store::is_aborted(tx).await? {
            return Ok(Attempt::Refused("the handler left its transaction aborted".into()));
        }
        Ok(Attempt::Dealt(Dealt::Applied, waiting))
    }

    /// Stores an event in front of its cursor. `None`: its turn has come meanwhile.
    async fn park(
        &self,
        event: &Envelope,
        (reason, error): (&'static str, Option<String>),
    ) -> Result<Option<Dealt>, Error> {
        if let Some(error) = &error {
            tracing::error!(
                handler = self.name(),
                key = event.key,
                version = event.version,
                reason,
                error,
                "an event was not applied; its key waits, others go on"
            );
        }
        let parked_max = self.options.parked_max;
        let per_key_max = self.refilling.as_ref().map(|refilling| refilling.options.parked_per_key_max);
        let parking = Parking { reason, error: error.as_deref(), parked_max, per_key_max };
        match store::park(&self.pool, self.name(), event, parking).await?.as_str() {
            "parked" | "overflow" => Ok(Some(Dealt::Parked)),
            "conflict" => {
                self.alarm(event);
                Ok(Some(Dealt::Conflict))
            }
            "full" => Err(Error::ParkedFull { handler: self.name().to_owned(), parked_max }),
            // `ready` or `passed`: the gate tells.
            _ => Ok(None),
        }
    }

    /// Applies parked events of a key whose turn has come, at most `drain_max`.
    pub(crate) async fn drain(&self, topic: &str, key: &str) -> Result<(), Error> {
        for _ in 0..self.options.drain_max {
            let Some(row) = store::next_parked(&self.pool, self.name(), topic, key).await? else {
                return Ok(());
            };
            let attempts = row.attempts;
            let event = Envelope::read(row.topic, row.key, row.payload, row.headers.0).map_err(unreadable)?;
            let (reason, error) = match self.attempt(&event).await? {
                Attempt::Dealt(..) => continue,
                Attempt::Early { .. } => ("early", String::new()),
                Attempt::Refused(error) => ("refused", error),
                Attempt::Passing(error) => ("failed", error),
            };
            // The refusal that parked it was the first, this is the one after the retries.
            let refusals = attempts + 2;
            if reason == "refused" && refusals >= self.options.attempts_max {
                tracing::error!(
                    handler = self.name(),
                    key,
                    version = event.version,
                    error,
                    refusals,
                    "DEAD LETTER: an event was given up; its key waits for an operator"
                );
                return Ok(store::bury(&self.pool, self.name(), &event, (&error, refusals)).await?);
            }
            let delay = self.retry_delay(attempts);
            tracing::error!(
                handler = self.name(),
                key,
                version = event.version,
                reason,
                error,
                attempts = attempts + 1,
                "a parked event was not applied; its key waits, others go on"
            );
            return Ok(store::retry_later(&self.pool, self.name(), &event, (reason, &error), delay).await?);
        }
        Ok(())
    }

    fn alarm(&self, event: &Envelope) {
        let (handler, key, version, id) = (self.name(), &event.key, event.version, event.id);
        tracing::error!(handler, key, version, %id, "CONFLICT: two events with one version (see outbox.conflict)");
    }

    fn retry_delay(&self, attempts: i32) -> Duration {
        let doublings = u32::try_from(attempts.clamp(0, 16)).unwrap_or(0);
        (self.options.retry_delay_min * 2u32.pow(doublings)).min(self.options.retry_delay_max)
    }
}

/// What a deferred constraint says at commit is a verdict on the effect; the rest is the database's.
fn uncommitted(error: sqlx::Error) -> Result<Attempt, Error> {
    match &error {
        sqlx::Error::Database(_) if !is_passing(&error) => Ok(Attempt::Refused(chain(&error))),
        _ => Err(error.into()),
    }
}

/// A parked row was readable when it was stored; someone has edited it.
fn unreadable(reason: String) -> Error {
    Error::Invalid { kind: "(parked)".into(), key: String::new(), reason }
}
