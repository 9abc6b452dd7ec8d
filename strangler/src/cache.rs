//! The last known owners, for reads.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::Ownership;

/// How old an answer may be.
const AGE_MAX: Duration = Duration::from_secs(1);
/// How many keys are kept; one more forgets those that are too old, or else all.
const KEYS_MAX: usize = 10_000;

/// Keys with their owner and the time of the answer.
#[derive(Debug, Default)]
pub(crate) struct Cache(Mutex<HashMap<String, (Instant, Ownership)>>);

impl Cache {
    pub(crate) fn get(&self, key: &str) -> Option<Ownership> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key).filter(|(at, _)| at.elapsed() < AGE_MAX).map(|(_, ownership)| ownership.clone())
    }

    pub(crate) fn put(&self, key: &str, ownership: &Ownership) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KEYS_MAX {
            known.retain(|_, (at, _)| at.elapsed() < AGE_MAX);
        }
        if known.len() >= KEYS_MAX {
            known.clear();
        }
        known.insert(key.to_owned(), (Instant::now(), ownership.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::{Cache, KEYS_MAX};
    use crate::{Epoch, Home, Ownership, Phase};

    #[test]
    fn it_stays_within_its_bound() {
        let cache = Cache::default();
        let source = Ownership { home: Home::Source, phase: Phase::Settled, epoch: Epoch::BIRTH };
        for n in 0..=KEYS_MAX {
            cache.put(&n.to_string(), &source);
        }
        assert!(cache.0.lock().unwrap().len() <= KEYS_MAX);
        assert_eq!(cache.get(&KEYS_MAX.to_string()), Some(source));
    }
}
