//! Many events of one handler in one transaction.

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Instant, SystemTime},
};

use futures::FutureExt as _;
use sqlx::postgres::PgTransaction;
use tokio::time::timeout;

use super::{
    Dealt, Gate, Kind,
    ending::undo,
    verdict::{chain, failure},
};
use crate::{
    Error,
    envelope::Envelope,
    handler::Effect,
    store::{self, AdmittedRun, Run},
};

/// What became of one event of a batch that was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Dealt(Dealt),
    /// Not the batch's business: it comes early, something of its key waits, or its version is there under another id.
    OneByOne,
}

/// A run of versions of one key, and where its events are in the batch.
struct Stretch<'a> {
    run: Run<'a>,
    indices: Vec<usize>,
}

impl Gate {
    /// A replica takes its events one by one: each locks its key's state and head behind the cursor, and a batch of them
    /// would hold those of many keys.
    pub(super) fn takes_batches(&self) -> bool {
        matches!(self.kind, Kind::Handler)
    }

    /// Deals with a batch in one transaction. `None`: something was in the way, all was rolled back, and smaller parts must
    /// be tried.
    ///
    /// # Errors
    /// What neither waiting nor a smaller part can mend.
    pub(super) async fn deal_batch(&self, events: &[Arc<Envelope>]) -> Result<Option<Vec<Outcome>>, Error> {
        match self.transact_batch(events).await {
            Err(Error::Database(error)) => {
                tracing::debug!(handler = self.name(), error = chain(&error), "a batch is tried in parts");
                Ok(None)
            }
            other => other,
        }
    }

    async fn transact_batch(&self, events: &[Arc<Envelope>]) -> Result<Option<Vec<Outcome>>, Error> {
        let mut outcomes = vec![Outcome::OneByOne; events.len()];
        let mut tx = self.begin().await?;
        let due = self.admit_batch(&mut tx, events, &mut outcomes).await?;
        let admitted: Vec<&Envelope> = due.iter().map(|n| &*events[*n]).collect();
        let Some(effects) = self.apply_batch(&mut tx, &admitted).await else {
            undo(tx).await;
            return Ok(None);
        };
        if !admitted.is_empty() && self.spoilt(&mut tx).await?.is_some() {
            undo(tx).await;
            return Ok(None);
        }
        // Not as a fault of the outbox's rights: a deferred trigger may be what was denied.
        tx.commit().await.map_err(Error::Database)?;
        for (n, effect) in due.into_iter().zip(effects) {
            outcomes[n] = Outcome::Dealt(effect.into());
        }
        Ok(Some(outcomes))
    }

    /// Moves the cursors of all that is due, and returns that in the order of (key, version). Fills in the outcomes of what
    /// was applied before.
    async fn admit_batch(
        &self,
        tx: &mut PgTransaction<'_>,
        events: &[Arc<Envelope>],
        outcomes: &mut [Outcome],
    ) -> Result<Vec<usize>, Error> {
        let left_out = self.left_out(tx, events.iter().map(|event| &**event)).await?;
        for (event, outcome) in events.iter().zip(outcomes.iter_mut()) {
            if event.is_replayed() && left_out.contains(&event.key) {
                *outcome = Outcome::Dealt(Dealt::Duplicate);
            }
        }
        let mut due = Vec::new();
        let mut stretches = self.stretches(events, outcomes);
        // The second round takes what the first one cut to what is due; its cursors are locked, so there is no third.
        for _ in 0..2 {
            let runs: Vec<&Run<'_>> = stretches.iter().map(|stretch| &stretch.run).collect();
            if runs.is_empty() {
                break;
            }
            let answers = store::admit_runs(tx, self.name(), self.topic().name(), &runs).await?;
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
        Ok(due)
    }

    /// The batch by key, in the order of keys: of each the versions that follow each other without a gap or a repeat. What
    /// comes after such a run is dealt with one by one, and what has an outcome is passed over.
    fn stretches<'a>(&self, events: &'a [Arc<Envelope>], outcomes: &[Outcome]) -> Vec<Stretch<'a>> {
        let mut by_key: BTreeMap<&str, (Stretch<'a>, bool)> = BTreeMap::new();
        for (n, event) in events.iter().enumerate() {
            if outcomes[n] != Outcome::OneByOne {
                continue;
            }
            let own_last = self.is_own(event).then_some(event.version);
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
            *open = *open && event.version == stretch.run.last + 1;
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

    /// Runs the effects. `None`: one of them failed; which one, smaller parts tell.
    async fn apply_batch(&self, tx: &mut PgTransaction<'_>, events: &[&Envelope]) -> Option<Vec<Effect>> {
        if events.is_empty() {
            return Some(Vec::new());
        }
        let batch = events.iter().map(|event| (event.meta(), event.payload.as_slice())).collect();
        let began = Instant::now();
        let effect = AssertUnwindSafe(self.handler.apply_batch(tx, batch)).catch_unwind();
        let (tracer, began_at) = (&self.counts.tracer, SystemTime::now());
        let span = tracer.batch(self.name(), self.topic().name(), events.iter().map(|event| &event.headers));
        let effects = timeout(self.options.effect_timeout, span.within(effect)).await;
        self.counts.metrics.handled(self.name(), began.elapsed());
        if matches!(effects, Ok(Ok(Ok(_)))) {
            for event in events {
                tracer.handled(self.name(), event, &span, began_at);
            }
        }
        span.ended(failure(&effects));
        match effects {
            Ok(Ok(Ok(effects))) => Some(effects),
            Ok(Ok(Err(error))) => {
                tracing::debug!(handler = self.name(), error = chain(&*error), "a batch is tried in parts");
                None
            }
            Ok(Err(_)) | Err(_) => None,
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
