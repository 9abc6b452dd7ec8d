//! Idempotency keys: what was answered under each, for as long as Stripe would know it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use crate::clock::millis;
use crate::line::Answer;

/// The keys that count now.
#[derive(Debug)]
pub(crate) struct Keys {
    lifetime_ms: i64,
    answers: HashMap<String, Kept>,
    /// When each answer ends, in the order in which they were given.
    ends: VecDeque<(i64, String)>,
    /// Keys whose request has not ended. Not in the journal: a restart ends every request.
    in_flight: HashSet<String>,
}

#[derive(Debug)]
struct Kept {
    answer: Answer,
    until_ms: i64,
}

impl Keys {
    pub(super) fn new(lifetime: Duration) -> Self {
        let lifetime_ms = millis(lifetime);
        Self { lifetime_ms, answers: HashMap::new(), ends: VecDeque::new(), in_flight: HashSet::new() }
    }

    /// Keeps an answer, and forgets those whose time had passed by then.
    pub(super) fn keep(&mut self, answer: Answer, at_ms: i64) {
        let until_ms = answer.since_ms.unwrap_or(at_ms).saturating_add(self.lifetime_ms);
        self.ends.push_back((until_ms, answer.key.clone()));
        self.answers.insert(answer.key.clone(), Kept { answer, until_ms });
        while let Some((_, key)) = self.ends.pop_front_if(|(until_ms, _)| *until_ms <= at_ms) {
            // A key that was used again after its end is kept under its second life.
            if self.answers.get(&key).is_some_and(|kept| kept.until_ms <= at_ms) {
                self.answers.remove(&key);
            }
        }
    }

    /// What was answered under a key; `None` once its lifetime is over.
    pub(crate) fn answer(&self, key: &str, now_ms: i64) -> Option<&Answer> {
        self.answers.get(key).filter(|kept| kept.until_ms > now_ms).map(|kept| &kept.answer)
    }

    /// Marks a key as in flight; false when it is already.
    pub(crate) fn claim(&mut self, key: &str) -> bool {
        self.in_flight.insert(key.to_owned())
    }

    pub(crate) fn release(&mut self, key: &str) {
        self.in_flight.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn answer(key: &str) -> Answer {
        Answer { key: key.into(), fingerprint: String::new(), status: 200, body: Value::Null, since_ms: None }
    }

    #[test]
    fn a_key_ends_with_its_lifetime_and_its_second_life_is_its_own() {
        let mut keys = Keys::new(Duration::from_millis(10));
        keys.keep(answer("k-1"), 100);
        assert!(keys.answer("k-1", 109).is_some());
        assert!(keys.answer("k-1", 110).is_none());
        keys.keep(answer("k-1"), 115);
        keys.keep(answer("k-2"), 120);
        assert!(keys.answer("k-1", 124).is_some());
        keys.keep(answer("k-3"), 140);
        assert_eq!((keys.answers.len(), keys.ends.len()), (1, 1), "what ended takes no room");
    }
}
