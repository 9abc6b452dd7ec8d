//! Many events of one handler in one transaction.

use std::{
    collections::{BTreeMap, HashSet},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use futures::FutureExt as _;
use sqlx::postgres::PgTransaction;
use tokio::time::timeout;

use super::{
    Dealt, Gate, Kind,
    verdict::{chain, failure, is_cancelled, is_cancelled_in, is_silence},
};
use crate::{
    Error,
    envelope::Envelope,
    handler::Effect,
    replica,
    store::{self, AdmittedRun, Run},
};

/// What became of one event of a batch that was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Dealt(Dealt),
    /// Not the batch's business: it comes early, something of its key waits, or its version is there under another id.
    OneByOne,
}

/// Why a batch was rolled back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hindrance {
    /// Something was in the way; smaller parts must be tried.
    Fault,
    /// It took too long. Smaller parts may take as long.
    Time,
}

/// The outcomes of a batch that was committed, or why it was not.
pub(super) type Tried = Result<Vec<Outcome>, Hindrance>;

/// The most events that a replica takes together: the state and the head of each key stay locked until all are applied, and who waits
/// for a key that changes its home waits for them.
const SNAPSHOTS_MAX: usize = 100;

/// The longest that an event may take at first after its batch took too long.
const QUICK: Duration = Duration::from_secs(1);

/// A run of versions of one key, and where its events are in the batch.
struct Stretch<'a> {
    run: Run<'a>,
    indices: Vec<usize>,
}

/// Where the events of a batch are whose cursors it moves, in the order of (key, version).
struct Due {
    /// Those that the handler applies.
    effects: Vec<usize>,
    /// A replica's own: their effects are here already.
    own: Vec<usize>,
}

impl Gate {
    /// Whether many such events may share a transaction. A replica takes foreign changes one by one: each locks its key's state and
    /// head behind the cursor, and a batch of them would hold those of many keys that somebody writes. Snapshots come many at a time
    /// where all of a domain is copied or changes its home, and nobody else writes their keys here; its home's own events only move the
    /// cursor.
    pub(super) fn takes_in_batches(&self, event: &Envelope) -> bool {
        match &self.kind {
            Kind::Handler => true,
            Kind::Replica { module } => replica::is_own(event, module) || self.is_foreign_snapshot(event),
        }
    }

    /// How many of them, at most.
    pub(super) fn batch_max(&self) -> usize {
        let most = self.options.batch_max.max(1);
        match &self.kind {
            Kind::Handler => most,
            Kind::Replica { .. } => most.min(SNAPSHOTS_MAX),
        }
    }

    fn is_foreign_snapshot(&self, event: &Envelope) -> bool {
        match &self.kind {
            Kind::Handler => false,
            Kind::Replica { module } => {
                !replica::is_own(event, module)
                    && !event.is_skipped()
                    && self.handler.is_snapshot(&event.kind)
            }
        }
    }

    /// Deals with a batch in one transaction, or rolls all back.
    ///
    /// # Errors
    /// What a smaller part can't mend: the database says nothing, or a fault that waiting can't mend either.
    pub(super) async fn deal_batch(&self, events: &[Arc<Envelope>]) -> Result<Tried, Error> {
        self.deal_within(events, (self.options.effect_timeout, self.options.statement_timeout)).await
    }

    /// The same for one event that may be the slow one of its batch.
    pub(super) async fn deal_quickly(&self, event: &Arc<Envelope>) -> Result<Tried, Error> {
        let times = (QUICK.min(self.options.effect_timeout), QUICK.min(self.options.statement_timeout));
        self.deal_within(std::slice::from_ref(event), times).await
    }

    async fn deal_within(
        &self,
        events: &[Arc<Envelope>],
        times: (Duration, Duration),
    ) -> Result<Tried, Error> {
        match self.transact_batch(events, times).await {
            Err(Error::Database(error)) if !is_silence(&error) => {
                tracing::debug!(handler = self.name(), error = chain(&error), "a batch is tried in parts");
                Ok(Err(if is_cancelled(&error) { Hindrance::Time } else { Hindrance::Fault }))
            }
            other => other,
        }
    }

    async fn transact_batch(
        &self,
        events: &[Arc<Envelope>],
        (effect_timeout, statement_timeout): (Duration, Duration),
    ) -> Result<Tried, Error> {
        let mut outcomes = vec![Outcome::OneByOne; events.len()];
        let mut line = self.database.line().await?;
        let mut tx = self.begin_within(&mut line, statement_timeout).await?;
        let due = self.admit_batch(&mut tx, events, &mut outcomes).await?;
        let admitted: Vec<&Envelope> = due.effects.iter().map(|n| &*events[*n]).collect();
        let mut applied = self.apply_batch(&mut tx, &admitted, effect_timeout).await;
        // A handler that none of them was for has not had the transaction.
        let ran = applied.as_ref().is_ok_and(|effects| effects.contains(&Effect::Applied));
        if ran && (self.spoilt(&mut tx).await?.is_some() || !self.follow(&mut tx, &admitted).await?) {
            applied = Err(Hindrance::Fault);
        }
        let effects = match applied {
            Ok(effects) => effects,
            Err(hindrance) => {
                if self.undo(tx).await.is_ok() {
                    line.done(());
                }
                return Ok(Err(hindrance));
            }
        };
        // Not as a fault of the outbox's rights: a deferred trigger may be what was denied.
        self.database.hear(tx.commit()).await.map_err(Error::Database)?;
        line.done(());
        due.effects
            .into_iter()
            .zip(effects)
            .for_each(|(n, effect)| outcomes[n] = Outcome::Dealt(effect.into()));
        due.own.into_iter().for_each(|n| outcomes[n] = Outcome::Dealt(Dealt::Own));
        Ok(Ok(outcomes))
    }

    /// A replica's heads follow what was applied. False when its home wrote one of these versions itself.
    async fn follow(&self, tx: &mut PgTransaction<'_>, applied: &[&Envelope]) -> Result<bool, Error> {
        match &self.kind {
            Kind::Handler => Ok(true),
            Kind::Replica { .. } => {
                let follow = store::follow_all_applied(tx, self.name(), self.topic().name(), applied);
                Ok(self.database.hear(follow).await?.is_empty())
            }
        }
    }

    /// Moves the cursors of all that is due. Fills in the outcomes of what was applied before.
    async fn admit_batch(
        &self,
        tx: &mut PgTransaction<'_>,
        events: &[Arc<Envelope>],
        outcomes: &mut [Outcome],
    ) -> Result<Due, Error> {
        let left_out = self.left_out(tx, events.iter().map(|event| &**event)).await?;
        for (event, outcome) in events.iter().zip(outcomes.iter_mut()) {
            if event.is_replayed() && left_out.contains(&event.key) {
                *outcome = Outcome::Dealt(Dealt::Duplicate);
            }
        }
        let snapshots = self.snapshots(events, outcomes);
        let leapt = self.leap_all(tx, events, &snapshots).await?;
        let mut due = Vec::new();
        let snapped = snapshots.iter().map(|n| events[*n].key.as_str()).collect();
        let mut stretches = self.stretches(events, outcomes, &snapped);
        // The second round takes what the first one cut to what is due; its cursors are locked, so there is no third.
        for _ in 0..2 {
            let runs: Vec<&Run<'_>> = stretches.iter().map(|stretch| &stretch.run).collect();
            if runs.is_empty() {
                break;
            }
            let answers = store::admit_runs(tx, self.name(), self.topic().name(), &runs);
            let answers = self.database.hear(answers).await?;
            let mut cut = Vec::new();
            for answer in answers {
                let at = usize::try_from(answer.n - 1).unwrap_or(usize::MAX);
                let Some(stretch) = stretches.get_mut(at) else { continue };
                self.not_behind(&answer, stretch)?;
                if answer.admitted {
                    due.append(&mut stretch.indices);
                } else {
                    cut.extend(rest_of(stretch, &answer, events, outcomes));
                }
            }
            stretches = cut;
        }
        due.sort_by(|a, b| (&events[*a].key, events[*a].version).cmp(&(&events[*b].key, events[*b].version)));
        Ok(match &self.kind {
            Kind::Handler => Due { effects: due, own: Vec::new() },
            Kind::Replica { .. } => Due { effects: leapt, own: due },
        })
    }

    /// The foreign snapshots of a replica's batch that are the first of their keys in it, in the order of keys.
    fn snapshots(&self, events: &[Arc<Envelope>], outcomes: &[Outcome]) -> Vec<usize> {
        let mut firsts: BTreeMap<&str, usize> = BTreeMap::new();
        for (n, event) in events.iter().enumerate() {
            if outcomes[n] == Outcome::OneByOne {
                firsts.entry(&event.key).or_insert(n);
            }
        }
        firsts.into_values().filter(|n| self.is_foreign_snapshot(&events[*n])).collect()
    }

    /// Those of the snapshots whose cursors moved; the others are dealt with one by one.
    async fn leap_all(
        &self,
        tx: &mut PgTransaction<'_>,
        events: &[Arc<Envelope>],
        snapshots: &[usize],
    ) -> Result<Vec<usize>, Error> {
        if snapshots.is_empty() {
            return Ok(Vec::new());
        }
        let asked: Vec<&Envelope> = snapshots.iter().map(|n| &*events[*n]).collect();
        let leapt = store::leap_all(tx, self.name(), self.topic().name(), &asked);
        let leapt: HashSet<usize> = self.database.hear(leapt).await?.into_iter().collect();
        Ok(snapshots.iter().enumerate().filter(|(at, _)| leapt.contains(at)).map(|(_, n)| *n).collect())
    }

    /// The batch by key, in the order of keys: of each the versions that follow each other without a gap or a repeat. What
    /// comes after such a run is dealt with one by one, and what has an outcome, or a snapshot in front of it, is passed over.
    fn stretches<'a>(
        &self,
        events: &'a [Arc<Envelope>],
        outcomes: &[Outcome],
        snapped: &HashSet<&str>,
    ) -> Vec<Stretch<'a>> {
        let mut by_key: BTreeMap<&str, (Stretch<'a>, bool)> = BTreeMap::new();
        for (n, event) in events.iter().enumerate() {
            if outcomes[n] != Outcome::OneByOne || snapped.contains(event.key.as_str()) {
                continue;
            }
            let own = match &self.kind {
                Kind::Handler => self.is_own(event),
                Kind::Replica { module } => replica::is_own(event, module),
            };
            let own_last = own.then_some(event.version);
            let Some((stretch, open)) = by_key.get_mut(event.key.as_str()) else {
                let run = Run {
                    key: &event.key,
                    first: event.version,
                    last: event.version,
                    last_id: event.id,
                    own_last,
                };
                by_key.insert(&event.key, (Stretch { run, indices: vec![n] }, true));
                continue;
            };
            // A snapshot behind a replica's own events is no part of their run.
            *open = *open && event.version == stretch.run.last + 1 && !self.is_foreign_snapshot(event);
            if *open {
                stretch.run.last = event.version;
                stretch.run.last_id = event.id;
                stretch.run.own_last = own_last.or(stretch.run.own_last);
                stretch.indices.push(n);
            }
        }
        by_key.into_values().map(|(stretch, _)| stretch).collect()
    }

    fn not_behind(&self, answer: &AdmittedRun, stretch: &Stretch<'_>) -> Result<(), Error> {
        match (answer.behind, stretch.run.own_last) {
            (Some(head), Some(version)) if head < version => Err(Error::WentBack {
                topic: self.topic().name().to_owned(),
                key: stretch.run.key.to_owned(),
                head,
                version,
            }),
            _ => Ok(()),
        }
    }

    /// Runs the effects. When one of them failed, smaller parts tell which one.
    async fn apply_batch(
        &self,
        tx: &mut PgTransaction<'_>,
        events: &[&Envelope],
        effect_timeout: Duration,
    ) -> Result<Vec<Effect>, Hindrance> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let batch = events.iter().map(|event| (event.meta(), event.payload.as_slice())).collect();
        let began = Instant::now();
        let effect = AssertUnwindSafe(self.handler.apply_batch(tx, batch)).catch_unwind();
        let (tracer, began_at) = (&self.counts.tracer, SystemTime::now());
        let span = tracer.batch(self.name(), self.topic().name(), events.iter().map(|event| &event.headers));
        let effects = timeout(effect_timeout, span.within(effect)).await;
        self.counts.metrics.handled(self.name(), began.elapsed());
        if matches!(effects, Ok(Ok(Ok(_)))) {
            for event in events {
                tracer.handled(self.name(), event, &span, began_at);
            }
        }
        span.ended(failure(&effects));
        match effects {
            Ok(Ok(Ok(effects))) => Ok(effects),
            Ok(Ok(Err(error))) => {
                tracing::debug!(handler = self.name(), error = chain(&*error), "a batch is tried in parts");
                Err(if is_cancelled_in(&error) { Hindrance::Time } else { Hindrance::Fault })
            }
            Ok(Err(_)) => Err(Hindrance::Fault),
            Err(_) => Err(Hindrance::Time),
        }
    }
}

/// Of a run that was not admitted: what was applied before is so marked, what is due is returned to be asked again.
fn rest_of<'a>(
    stretch: &mut Stretch<'a>,
    answer: &AdmittedRun,
    events: &[Arc<Envelope>],
    outcomes: &mut [Outcome],
) -> Option<Stretch<'a>> {
    let (at, at_id) = (answer.version?, answer.last_id);
    let mut due = Vec::new();
    for n in stretch.indices.drain(..) {
        let event = &events[n];
        if event.version > at {
            due.push(n);
        } else if event.version < at || at_id.is_none_or(|id| id == event.id) {
            outcomes[n] = Outcome::Dealt(Dealt::Duplicate);
        }
    }
    let passed_some = stretch.run.first <= at;
    let run = Run { first: at + 1, ..stretch.run };
    (passed_some && !due.is_empty()).then_some(Stretch { run, indices: due })
}
