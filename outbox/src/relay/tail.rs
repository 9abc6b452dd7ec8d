//! The end of the log, read on from position to position.
//!
//! A position that is not there when a later one is belongs to a transaction that is still open, or has none any more. It is
//! looked for at each reading, for a while; so a transaction that commits late is not waited for, and its event not late.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

/// Missing positions that are looked for at once; of more, the highest.
const GAPS_MAX: usize = 1_024;

/// See the module.
pub(super) struct Tail {
    seen_to: Option<i64>,
    /// Missing positions, and since when.
    gaps: BTreeMap<i64, Instant>,
    patience: Duration,
}

impl Tail {
    /// Looks for a missing position for so long; later it is a pass that finds it.
    pub(super) fn new(patience: Duration) -> Self {
        Self { seen_to: None, gaps: BTreeMap::new(), patience }
    }

    /// The position that all was seen up to, but for the gaps; `None` before the first reading.
    pub(super) fn seen_to(&self) -> Option<i64> {
        self.seen_to
    }

    pub(super) fn gaps(&self) -> Vec<i64> {
        self.gaps.keys().copied().collect()
    }

    /// The queue is read otherwise for a while.
    pub(super) fn leave(&mut self) {
        self.seen_to = None;
    }

    /// Takes in what a reading behind `after` has seen, in order, and the gaps that it has found.
    pub(super) fn absorb(&mut self, after: i64, seen: &[i64]) {
        let now = Instant::now();
        let (mut last, most) = (after, i64::try_from(GAPS_MAX).unwrap_or(i64::MAX));
        for position in seen {
            self.gaps.remove(position);
            if *position > last {
                let missing = (last + 1).max(position.saturating_sub(most))..*position;
                self.gaps.extend(missing.map(|missing| (missing, now)));
                last = *position;
            }
        }
        self.seen_to = Some(last);
        self.gaps.retain(|_, since| now.duration_since(*since) < self.patience);
        while self.gaps.len() > GAPS_MAX {
            self.gaps.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_looked_for_until_it_comes() {
        let mut tail = Tail::new(Duration::from_secs(3600));
        tail.absorb(10, &[12, 15]);
        assert_eq!((tail.seen_to(), tail.gaps()), (Some(15), vec![11, 13, 14]));
        tail.absorb(15, &[13, 16]);
        assert_eq!((tail.seen_to(), tail.gaps()), (Some(16), vec![11, 14]));
        tail.absorb(16, &[]);
        assert_eq!((tail.seen_to(), tail.gaps()), (Some(16), vec![11, 14]));
    }

    #[test]
    fn it_is_given_up_in_time_and_in_number() {
        let mut tail = Tail::new(Duration::ZERO);
        tail.absorb(0, &[3]);
        assert_eq!(tail.gaps(), Vec::<i64>::new());
        let mut tail = Tail::new(Duration::from_secs(3600));
        tail.absorb(0, &[1_000_000]);
        tail.absorb(1_000_000, &[1_000_010]);
        assert_eq!((tail.gaps().len(), tail.gaps().last()), (GAPS_MAX, Some(&1_000_009)));
    }
}
