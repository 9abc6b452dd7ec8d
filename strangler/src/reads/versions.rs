//! The versions that callers were shown a moment ago, so that they are shown no older ones.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many keys are kept; one more forgets those that are too old, or else all: then a read may show what the target has.
const KEYS_MAX: usize = 10_000;

/// Keys with the version shown last.
#[derive(Debug)]
pub(super) struct Versions {
    age_max: Duration,
    known: Mutex<HashMap<String, (Instant, i64)>>,
}

impl Versions {
    pub(super) fn new(age_max: Duration) -> Self {
        Self { age_max, known: Mutex::default() }
    }

    pub(super) fn get(&self, key: &str) -> Option<i64> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key).filter(|(at, _)| at.elapsed() < self.age_max).map(|(_, version)| *version)
    }

    /// An older version than the one that is known changes nothing.
    pub(super) fn put(&self, key: &str, version: i64) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KEYS_MAX {
            known.retain(|_, (at, _)| at.elapsed() < self.age_max);
        }
        if known.len() >= KEYS_MAX {
            known.clear();
        }
        let entry = known.entry(key.to_owned()).or_insert_with(|| (Instant::now(), version));
        if version >= entry.1 {
            *entry = (Instant::now(), version);
        }
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
    fn it_stays_within_its_bound() {
        let versions = Versions::new(Duration::from_secs(60));
        for n in 0..=KEYS_MAX {
            versions.put(&n.to_string(), 1);
        }
        assert!(versions.known.lock().unwrap().len() <= KEYS_MAX);
        assert_eq!(versions.get(&KEYS_MAX.to_string()), Some(1));
    }
}
