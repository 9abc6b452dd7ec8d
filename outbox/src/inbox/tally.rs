//! What was decided about the records that were read.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::Dealt;
use crate::{Metrics, Tracer};

/// Counts what an inbox has decided since it was made, by handler and verdict. Clones share the counts.
///
/// A record is counted when its verdict is final; what is parked or dead is counted when it leaves there. So, of the distinct
/// records read for a handler: all = applied + duplicate + conflict + ignored + own + awaiting + refused (given up for good:
/// an operator discarded it), and what is in `outbox.parked`, `outbox.dead_letter` and (its `events`) `outbox.overflow` now.
/// What never came from the broker, but from the log, is none of them. A record that is read again, after a rebalance or a
/// restart of its connection, is not counted again, nor is one from before the handler's beginning.
#[derive(Debug, Clone, Default)]
pub struct Tally(Arc<Mutex<BTreeMap<(&'static str, &'static str), u64>>>);

impl Tally {
    /// How many records came to this verdict: `applied`, `duplicate`, `conflict`, `ignored`, `own`, `awaiting` or `refused`.
    pub fn of(&self, handler: &str, verdict: &str) -> u64 {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().filter(|((h, v), _)| *h == handler && *v == verdict).map(|(_, n)| n).sum()
    }

    /// How many records of a handler came to a final verdict.
    pub fn settled(&self, handler: &str) -> u64 {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().filter(|((h, _), _)| *h == handler).map(|(_, n)| n).sum()
    }

    fn add(&self, handler: &'static str, verdict: &'static str, n: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry((handler, verdict)).or_default() += n;
    }
}

/// Where a gate counts and traces.
#[derive(Clone, Default)]
pub(crate) struct Counts {
    pub(crate) tally: Tally,
    pub(crate) metrics: Metrics,
    pub(crate) tracer: Tracer,
}

impl Counts {
    pub(crate) fn dealt(&self, handler: &'static str, dealt: Dealt, n: u64) {
        let verdict = dealt.word();
        if !matches!(dealt, Dealt::Parked | Dealt::Dead) {
            self.tally.add(handler, verdict, n);
        }
        for _ in 0..n {
            self.metrics.dealt(handler, verdict);
        }
    }
}
