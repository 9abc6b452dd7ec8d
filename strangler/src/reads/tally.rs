//! Counts and samples of one program, until they are written down.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// The most samples of a class; the database keeps as many of all programs.
const SAMPLES_MAX: usize = 100;
/// The longest text of one home's answer, in bytes.
const TEXT_BYTES_MAX: usize = 1_000;
/// What counts in favour of the target.
const IN_FAVOUR: [&str; 3] = ["equal", "copy", "mutant_caught"];

/// A difference, to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) class: &'static str,
    pub(crate) key: String,
    pub(crate) source: String,
    pub(crate) target: String,
}

/// What was counted since a stage was entered.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) counts: BTreeMap<&'static str, i64>,
    pub(crate) samples: Vec<Sample>,
}

/// Batches by the revision with which the stage was entered. Few: a stage lasts longer than the time between two writes.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<BTreeMap<i64, Batch>>);

impl Sample {
    pub(super) fn new(class: &'static str, key: &str, source: &str, target: &str) -> Self {
        Self { class, key: key.to_owned(), source: cut(source), target: cut(target) }
    }
}

impl Tally {
    pub(super) fn count(&self, since: i64, class: &'static str, more: i64) {
        self.with(since, |batch| {
            let count = batch.counts.entry(class).or_default();
            *count = count.saturating_add(more);
        });
    }

    pub(super) fn sample(&self, since: i64, sample: Sample) {
        self.with(since, |batch| {
            if batch.samples.iter().filter(|it| it.class == sample.class).count() < SAMPLES_MAX {
                batch.samples.push(sample);
            }
        });
    }

    pub(super) fn take(&self) -> BTreeMap<i64, Batch> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps a batch that may or may not have been written, but for what counts in favour: a difference is rather counted twice
    /// than never, an equal answer rather never than twice.
    pub(super) fn put_back(&self, since: i64, batch: Batch) {
        for (class, count) in batch.counts {
            if !IN_FAVOUR.contains(&class) {
                self.count(since, class, count);
            }
        }
        for sample in batch.samples {
            self.sample(since, sample);
        }
    }

    fn with(&self, since: i64, change: impl FnOnce(&mut Batch)) {
        let mut batches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(batches.entry(since).or_default());
    }
}

fn cut(text: &str) -> String {
    // A text of PostgreSQL's holds no zero byte.
    text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or(text).replace('\0', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_and_their_texts_are_bounded() {
        let tally = Tally::default();
        for n in 0..SAMPLES_MAX + 5 {
            tally.sample(1, Sample::new("money", &n.to_string(), &"ä".repeat(1_000), "a\0b"));
        }
        tally.sample(1, Sample::new("structure", "k", "", ""));
        let batches = tally.take();
        let samples = &batches[&1].samples;
        assert_eq!(samples.len(), SAMPLES_MAX + 1);
        assert_eq!((samples[0].source.len(), samples[0].target.as_str()), (1_000, "a b"));
        assert!(tally.take().is_empty());
    }

    #[test]
    fn what_may_have_been_written_is_kept_unless_it_is_in_favour() {
        let tally = Tally::default();
        for class in ["equal", "copy", "mutant_caught", "money", "lag", "mutant_missed"] {
            tally.count(7, class, 2);
        }
        let batch = tally.take().remove(&7).unwrap();
        tally.count(7, "money", 1);
        tally.put_back(7, batch);
        let kept = tally.take().remove(&7).unwrap().counts;
        assert_eq!(kept, BTreeMap::from([("money", 3), ("lag", 2), ("mutant_missed", 2)]));
    }
}
