//! The gate in front of one handler: per key, versions 1, 2, 3 ... once each.

use std::{
    collections::HashSet,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use sqlx::{AssertSqlSafe, Connection as _, PgPool, postgres::PgTransaction};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{
    Attempt, Dealt, InboxOptions,
    attempt::{Came, Waiting},
    ending::uncommitted,
    refill::{Refilling, close_gaps},
    tally::Counts,
    verdict::{chain, failure, is_passing, is_passing_in, is_silence},
};
use crate::{
    Error, Topic,
    database::{Database, Line},
    envelope::Envelope,
    handler::{Effect, Erased, Undecodable, UnknownKind},
    replica, store,
};

/// What stands behind a gate.
pub(crate) enum Kind {
    /// A plain handler.
    Handler,
    /// A replica at the home that publishes as `module`.
    Replica { module: String },
}

pub(crate) struct Gate {
    pub(crate) database: Database,
    pub(crate) kind: Kind,
    pub(crate) handler: Arc<dyn Erased>,
    pub(super) options: InboxOptions,
    pub(super) counts: Counts,
    /// The origins of this database.
    own: Vec<String>,
    pub(super) refilling: Option<Refilling>,
}

impl Gate {
    pub(crate) fn new(pool: PgPool, kind: Kind, handler: Arc<dyn Erased>) -> Self {
        let (options, counts) = (InboxOptions::default(), Counts::default());
        let database = Database::new(pool, options.statement_timeout);
        Self { database, kind, handler, options, counts, own: Vec::new(), refilling: None }
    }

    /// What it needs to know before the first event.
    pub(super) fn prepare(
        &mut self,
        database: &Database,
        options: &InboxOptions,
        counts: &Counts,
        own: &[String],
        refilling: Option<Refilling>,
    ) {
        self.database = database.clone();
        self.options = options.clone();
        self.counts = counts.clone();
        self.own = own.to_vec();
        self.refilling = refilling;
    }

    pub(super) async fn begin<'a>(&self, line: &'a mut Line) -> Result<PgTransaction<'a>, Error> {
        self.begin_within(line, self.options.statement_timeout).await
    }

    /// With another bound on each statement.
    pub(super) async fn begin_within<'a>(
        &self,
        line: &'a mut Line,
        statement_timeout: Duration,
    ) -> Result<PgTransaction<'a>, Error> {
        // One round trip. Milliseconds; zero would mean no bound at all. The mark tells whether a handler has ended the
        // transaction.
        let begin = format!(
            "begin; set local lock_timeout = {}; set local statement_timeout = {}; set local outbox.gate = 'open'",
            self.options.lock_timeout.as_millis().max(1),
            statement_timeout.as_millis().max(1),
        );
        Ok(self.database.hear(line.begin_with(AssertSqlSafe(begin))).await?)
    }

    /// Asks the log, if there is one, for what keys miss.
    pub(super) async fn refill(&self, stop: &CancellationToken) -> Result<(), Error> {
        match &self.refilling {
            Some(refilling) => close_gaps(self, refilling, stop).await,
            None => Ok(()),
        }
    }

    /// Whether this database published the event, and so must have a head at least as new. A replica has its own rule.
    pub(super) fn is_own(&self, event: &Envelope) -> bool {
        matches!(self.kind, Kind::Handler) && self.own.contains(&event.origin)
    }

    /// Counts records that came to a verdict.
    pub(super) fn count(&self, dealt: Dealt, records: u64) {
        self.counts.dealt(self.name(), dealt, records);
    }

    /// Counts parked rows that were dropped because their key's cursor had passed them.
    pub(super) fn superseded(&self, rows: i32) {
        self.count(Dealt::Duplicate, u64::try_from(rows).unwrap_or(0));
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
            let (dealt, waiting) = match self.persist(event).await? {
                Attempt::Dealt(dealt, waiting) => (Some(dealt), waiting),
                Attempt::Conflict(applied, waiting) => {
                    self.alarm(event, applied);
                    (Some(Dealt::Conflict), waiting)
                }
                Attempt::Early if self.awaits_snapshot(event).await? => (Some(Dealt::Awaiting), false),
                Attempt::Early => (self.park(event, ("early", None)).await?, false),
                Attempt::Refused(error) if self.options.attempts_max <= 1 => {
                    (self.give_up(event, error).await?, false)
                }
                Attempt::Refused(error) => (self.park(event, ("refused", Some(error))).await?, false),
                Attempt::Hopeless(error) => (self.give_up(event, error).await?, false),
                Attempt::Passing(error) | Attempt::Unknown(error) => {
                    (self.park(event, ("failed", Some(error))).await?, false)
                }
            };
            if waiting {
                self.drain(&event.topic, &event.key).await?;
            }
            // None: its turn has come meanwhile, and the gate tells.
            if let Some(dealt) = dealt {
                return Ok(dealt);
            }
        }
    }

    /// Tries an event, and again a bounded number of times while only the database is in the way.
    async fn persist(&self, event: &Envelope) -> Result<Attempt, Error> {
        let mut delay = self.options.passing_delay;
        for _ in 1..self.options.passing_max {
            match self.attempt(event, Came::Read).await? {
                Attempt::Passing(error) => {
                    tracing::warn!(handler = self.name(), key = event.key, error, "trying an event again");
                    tokio::time::sleep(delay).await;
                    delay *= 2;
                }
                other => return Ok(other),
            }
        }
        self.attempt(event, Came::Read).await
    }

    pub(super) async fn attempt(&self, event: &Envelope, came: Came) -> Result<Attempt, Error> {
        match self.transact(event, came).await {
            // A silence is not this event's: it is waited for, and nothing is parked.
            Err(Error::Database(error)) if is_passing(&error) && !is_silence(&error) => {
                Ok(Attempt::Passing(chain(&error)))
            }
            other => other,
        }
    }

    /// The gate, the effect and the commit. An event that was kept has a row of its own among those which the cursor passes.
    async fn transact(&self, event: &Envelope, came: Came) -> Result<Attempt, Error> {
        let mut line = self.database.line().await?;
        let mut tx = self.begin(&mut line).await?;
        let left_out = !self.left_out(&mut tx, std::iter::once(event)).await?.is_empty();
        let attempt = if left_out {
            Attempt::Dealt(Dealt::Duplicate, false)
        } else {
            match &self.kind {
                Kind::Handler => self.admit(&mut tx, event).await?,
                Kind::Replica { module } => replica::admit(self, &mut tx, event, module).await?,
            }
        };
        let waiting = match &attempt {
            Attempt::Dealt(_, waiting) | Attempt::Conflict(_, waiting) => *waiting,
            Attempt::Early
            | Attempt::Refused(_)
            | Attempt::Hopeless(_)
            | Attempt::Passing(_)
            | Attempt::Unknown(_) => {
                return Ok(match self.undo(tx).await {
                    Ok(()) => line.done(attempt),
                    Err(silence) => attempt.unanswered(&silence),
                });
            }
        };
        let mut removed = 0;
        if waiting {
            let unpark = store::unpark(&mut tx, self.name(), &event.topic, &event.key);
            removed = self.database.hear(unpark).await?;
        }
        if let Err(error) = self.database.hear(tx.commit()).await {
            return uncommitted(error);
        }
        line.done(());
        if came != Came::Read && removed > 0 {
            self.superseded(removed - 1);
            let verdict = attempt.verdict();
            let discarded = came == Came::Discarded && verdict == Dealt::Ignored;
            self.count(if discarded { Dealt::Refused } else { verdict }, 1);
        } else {
            self.superseded(removed);
        }
        Ok(attempt)
    }

    /// The keys of replayed events that are not to be begun by them: a handler that began `now` has left these keys out, and a
    /// replay to Kafka has new offsets for old events. Asks the database only where there are such events.
    pub(super) async fn left_out<'a>(
        &self,
        tx: &mut PgTransaction<'_>,
        events: impl Iterator<Item = &'a Envelope>,
    ) -> Result<HashSet<String>, Error> {
        let keys: Vec<&str> =
            events.filter(|event| event.is_replayed()).map(|event| event.key.as_str()).collect();
        if keys.is_empty() {
            return Ok(HashSet::new());
        }
        Ok(self.database.hear(store::unmet(tx, self.name(), self.topic().name(), &keys)).await?)
    }

    /// Moves the cursor by one and runs the effect.
    pub(crate) async fn admit(&self, tx: &mut PgTransaction<'_>, event: &Envelope) -> Result<Attempt, Error> {
        let gate = self.database.hear(store::admit(tx, self.name(), event)).await?;
        let waiting = gate.waiting > 0;
        Ok(match gate.verdict.as_str() {
            // It waits for what an operator put in its place; parking it finds that there.
            "apply" if waiting && self.is_replaced(tx, event).await? => Attempt::Early,
            "apply" => {
                self.check_own(tx, event).await?;
                self.apply(tx, event, waiting).await?
            }
            "duplicate" => Attempt::Dealt(Dealt::Duplicate, waiting),
            "conflict" => Attempt::Conflict(gate.applied_id, waiting),
            _ => Attempt::Early,
        })
    }

    /// Whether an operator has put something else in its place.
    pub(crate) async fn is_replaced(
        &self,
        tx: &mut PgTransaction<'_>,
        event: &Envelope,
    ) -> Result<bool, Error> {
        Ok(self.database.hear(store::is_replaced(tx, self.name(), event)).await?)
    }

    /// An event of this database that is newer than its head: the database was restored to an earlier time.
    async fn check_own(&self, tx: &mut PgTransaction<'_>, event: &Envelope) -> Result<(), Error> {
        if !self.is_own(event) {
            return Ok(());
        }
        let head = self.database.hear(store::head_version(tx, &event.topic, &event.key)).await?;
        if event.version > head {
            let (topic, key) = (event.topic.clone(), event.key.clone());
            return Err(Error::WentBack { topic, key, head, version: event.version });
        }
        Ok(())
    }

    /// Runs the effect. A panic is the handler's verdict too: the event would bring it back at each restart.
    pub(crate) async fn apply(
        &self,
        tx: &mut PgTransaction<'_>,
        event: &Envelope,
        waiting: Waiting,
    ) -> Result<Attempt, Error> {
        if event.is_skipped() && matches!(self.kind, Kind::Handler) {
            return Ok(Attempt::Dealt(Dealt::Ignored, waiting));
        }
        let began = Instant::now();
        let effect = AssertUnwindSafe(self.handler.apply(tx, event.meta(), &event.payload)).catch_unwind();
        let span = self.counts.tracer.handle(self.name(), event);
        let effect = timeout(self.options.effect_timeout, span.within(effect)).await;
        self.counts.metrics.handled(self.name(), began.elapsed());
        span.ended(failure(&effect));
        match effect {
            Ok(Ok(Ok(Effect::Applied))) => {}
            Ok(Ok(Ok(Effect::Ignored))) => return Ok(Attempt::Dealt(Dealt::Ignored, waiting)),
            Ok(Ok(Err(error))) if error.is::<Undecodable>() => return Ok(Attempt::Hopeless(chain(&*error))),
            Ok(Ok(Err(error))) if error.is::<UnknownKind>() => return Ok(Attempt::Unknown(chain(&*error))),
            Ok(Ok(Err(error))) if is_passing_in(&error) => return Ok(Attempt::Passing(chain(&*error))),
            Ok(Ok(Err(error))) => return Ok(Attempt::Refused(self.refusal(tx, chain(&*error)).await)),
            Ok(Err(_)) => return Ok(Attempt::Refused("the handler panicked".into())),
            Err(_) => return Ok(Attempt::Refused("the handler took longer than effect_timeout".into())),
        }
        Ok(match self.spoilt(tx).await? {
            Some(how) => Attempt::Refused(how.into()),
            None => Attempt::Dealt(Dealt::Applied, waiting),
        })
    }
}
