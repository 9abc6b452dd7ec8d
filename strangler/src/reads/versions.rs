//! The versions that callers were shown a moment ago, so that they are shown no older ones.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many keys a half holds: twice as many are kept. So what was shown is remembered for its whole time as long as not more keys than
/// this are shown in that time, which is 2,500 a second with the default.
const KEYS_MAX: usize = 25_000;

/// In place of a version that is not remembered any more: no copy has it, so the owner answers.
pub(crate) const OWNER_ONLY: i64 = i64::MAX;

/// Keys with the version shown last.
#[derive(Debug)]
pub(super) struct Versions {
    age_max: Duration,
    known: Mutex<Halves>,
}

type Half = HashMap<String, (Instant, i64)>;

/// One half is filled until it is full, then it takes the place of the other one, which is forgotten whole.
#[derive(Debug)]
struct Halves {
    young: Half,
    old: Half,
    /// Since when the young half is filled: nothing in the old one is younger.
    since: Instant,
    /// Until then a key that is not known here may have been shown and forgotten too early.
    unsure_until: Option<Instant>,
}

impl Versions {
    pub(super) fn new(age_max: Duration) -> Self {
        let (young, old) = (Half::default(), Half::default());
        let halves = Halves { young, old, since: Instant::now(), unsure_until: None };
        Self { age_max, known: Mutex::new(halves) }
    }

    /// None for a key that was not shown lately, [`OWNER_ONLY`] for one that may have been.
    pub(super) fn get(&self, key: &str) -> Option<i64> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let unsure = || known.unsure_until.filter(|until| Instant::now() < *until).map(|_| OWNER_ONLY);
        known.get(key, self.age_max).or_else(unsure)
    }

    /// An older version than the one that is known changes nothing.
    pub(super) fn put(&self, key: &str, version: i64) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.get(key, self.age_max).is_some_and(|known| known > version) {
            return;
        }
        if known.young.len() >= KEYS_MAX && !known.young.contains_key(key) {
            known.turn(self.age_max);
        }
        known.young.insert(key.to_owned(), (Instant::now(), version));
    }
}

impl Halves {
    fn get(&self, key: &str, age_max: Duration) -> Option<i64> {
        let found = self.young.get(key).or_else(|| self.old.get(key));
        found.filter(|(at, _)| at.elapsed() < age_max).map(|(_, version)| *version)
    }

    fn turn(&mut self, age_max: Duration) {
        if !self.old.is_empty() && self.since.elapsed() < age_max {
            self.unsure_until = self.since.checked_add(age_max);
        }
        self.old = std::mem::take(&mut self.young);
        self.since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_is_remembered_for_a_while() {
        let versions = Versions::new(Duration::from_secs(60));
        versions.put("k", 3);
        versions.put("k", 2);
        assert_eq!((versions.get("k"), versions.get("other")), (Some(3), None));
        let forgetful = Versions::new(Duration::ZERO);
        forgetful.put("k", 3);
        assert_eq!(forgetful.get("k"), None);
    }

    #[test]
    fn it_stays_within_its_bound_and_what_it_forgets_too_early_is_the_owners_to_answer() {
        let versions = Versions::new(Duration::from_secs(60));
        versions.put("first", 7);
        for n in 1..2 * KEYS_MAX {
            versions.put(&n.to_string(), 1);
        }
        assert_eq!((versions.get("first"), versions.get("never shown")), (Some(7), None));
        versions.put("one more", 1);
        assert_eq!(
            (versions.get("first"), versions.get("never shown")),
            (Some(OWNER_ONLY), Some(OWNER_ONLY))
        );
        assert_eq!((versions.get("one more"), versions.get(&KEYS_MAX.to_string())), (Some(1), Some(1)));
        let known = versions.known.lock().unwrap();
        assert!(known.young.len() + known.old.len() <= 2 * KEYS_MAX);
    }

    #[test]
    fn what_was_forgotten_in_its_time_leaves_no_doubt() {
        let versions = Versions::new(Duration::ZERO);
        for n in 0..=3 * KEYS_MAX {
            versions.put(&n.to_string(), 1);
        }
        assert_eq!(versions.get("0"), None);
    }
}
