//! What is counted and not yet written, bounded.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proto::PaymentId;

use super::Class;
use super::compare::Judged;

/// Samples that wait to be written; those that come later are counted only.
const SAMPLES_MAX: usize = 100;
/// Events whose repetition is noticed.
const RECENT_MAX: usize = 4_096;

/// Numbers since the last write.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// By class and outcome.
    pub(crate) decisions: BTreeMap<(Class, &'static str), i64>,
    /// Caught and missed, by mutant.
    pub(crate) mutants: BTreeMap<&'static str, (i64, i64)>,
    pub(crate) samples: Vec<Sample>,
}

/// A decision that was not equal.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) payment: PaymentId,
    pub(crate) version: i64,
    pub(crate) class: Class,
    pub(crate) text: String,
}

/// The events that were compared last: one whose transaction failed comes again.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    order: VecDeque<(PaymentId, i64)>,
    known: BTreeSet<(PaymentId, i64)>,
}

impl Counts {
    pub(crate) fn add(&mut self, payment: PaymentId, version: i64, judged: Judged) {
        let Judged { class, outcome, text, mutants } = judged;
        let count = self.decisions.entry((class, outcome)).or_default();
        *count = count.saturating_add(1);
        for (name, is_caught) in mutants {
            let (caught, missed) = self.mutants.entry(name).or_default();
            let count = if is_caught { caught } else { missed };
            *count = count.saturating_add(1);
        }
        if let Some(text) = text
            && self.samples.len() < SAMPLES_MAX
        {
            self.samples.push(Sample { payment, version, class, text });
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.decisions.is_empty() && self.mutants.is_empty()
    }

    /// Of what may or may not have been written, what may be written again: a difference is rather counted twice than never, an equal
    /// decision rather never than twice.
    pub(crate) fn against(self) -> Self {
        let Self { mut decisions, mutants, samples } = self;
        decisions.retain(|(class, _), _| *class != Class::Equal);
        let missed = mutants.into_iter().filter(|(_, (_, missed))| *missed > 0);
        let mutants = missed.map(|(name, (_, missed))| (name, (0, missed))).collect();
        Self { decisions, mutants, samples }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        for (key, count) in other.decisions {
            let sum = self.decisions.entry(key).or_default();
            *sum = sum.saturating_add(count);
        }
        for (name, (caught, missed)) in other.mutants {
            let sum = self.mutants.entry(name).or_default();
            *sum = (sum.0.saturating_add(caught), sum.1.saturating_add(missed));
        }
        self.samples.extend(other.samples);
        self.samples.truncate(SAMPLES_MAX);
    }
}

impl Recent {
    /// Whether the event was not compared before, and notes it.
    pub(crate) fn is_new(&mut self, payment: PaymentId, version: i64) -> bool {
        if !self.known.insert((payment, version)) {
            return false;
        }
        self.order.push_back((payment, version));
        if self.order.len() > RECENT_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}
