//! Refused records that are tried again: one at a time, so that each has the broker's answer to itself. One whose lane says
//! nothing does not keep the others waiting.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

/// Records under way at once, all but one of them without an answer for long.
const MOST: usize = 64;

/// See the module.
#[derive(Debug)]
pub(super) struct Retries {
    /// Since when each is under way: from the question for its event until its outcome is noted.
    begun: HashMap<i64, Instant>,
    stall_after: Duration,
}

impl Retries {
    pub(super) fn new(stall_after: Duration) -> Self {
        Self { begun: HashMap::new(), stall_after }
    }

    /// When the next one may begin, if none of these ends before.
    pub(super) fn next(&self, now: Instant) -> Instant {
        if self.begun.len() >= MOST {
            return now + self.stall_after;
        }
        self.begun.values().max().map_or(now, |last| *last + self.stall_after)
    }

    /// False when it is under way already.
    pub(super) fn begin(&mut self, position: i64, now: Instant) -> bool {
        self.begun.insert(position, now).is_none()
    }

    /// False when it was not under way.
    pub(super) fn end(&mut self, position: i64) -> bool {
        self.begun.remove(&position).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_waits_for_an_answer_or_for_so_long() {
        let patience = Duration::from_secs(2);
        let mut retries = Retries::new(patience);
        let now = Instant::now();
        assert_eq!(retries.next(now), now);
        assert!(retries.begin(1, now));
        assert_eq!(retries.next(now), now + patience);
        let later = now + patience;
        assert!(retries.begin(2, later) && !retries.begin(2, later));
        assert_eq!(retries.next(later), later + patience);
        assert!(retries.end(2) && !retries.end(2));
        assert_eq!(retries.next(later), later, "the first has been out for long");
        for position in (2..).take(MOST) {
            retries.begin(position, now);
        }
        assert!(retries.next(later) > later, "too many are out");
    }
}
