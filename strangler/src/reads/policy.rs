//! The policy as the reads of this program saw it last.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::{Stage, share};

/// What reads need of the policy.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct ReadPolicy {
    #[sqlx(try_from = "String")]
    pub(crate) stage: Stage,
    pub(crate) percent: i16,
    pub(crate) tenants: Vec<String>,
    pub(crate) salt: String,
    /// The revision with which its stage was entered.
    pub(crate) since: i64,
}

/// The last one, with the time it was seen.
#[derive(Debug)]
pub(super) struct Seen {
    age_max: Duration,
    last: Mutex<Option<(Instant, Arc<ReadPolicy>)>>,
}

impl ReadPolicy {
    /// Whether reads of a key go to the target's copy: the same keys that would be born there.
    pub(crate) fn has(&self, tenant: &str, key: &str) -> bool {
        self.tenants.iter().any(|named| named == tenant) || i16::from(share(&self.salt, key)) < self.percent
    }
}

impl Seen {
    pub(super) const fn new(age_max: Duration) -> Self {
        Self { age_max, last: Mutex::new(None) }
    }

    pub(super) fn put(&self, policy: ReadPolicy) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some((Instant::now(), Arc::new(policy)));
    }

    /// None before the first look, and when the last one is too old to go by.
    pub(super) fn get(&self) -> Option<Arc<ReadPolicy>> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().filter(|(at, _)| at.elapsed() < self.age_max).map(|(_, policy)| Arc::clone(policy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(percent: i16, tenants: &[&str]) -> ReadPolicy {
        let tenants = tenants.iter().map(|tenant| (*tenant).to_owned()).collect();
        ReadPolicy { stage: Stage::Reading, percent, tenants, salt: "salt".into(), since: 1 }
    }

    #[test]
    fn the_cohort_is_the_one_of_births() {
        assert!(!policy(0, &[]).has("acme", "k"));
        assert!(policy(100, &[]).has("acme", "k"));
        assert!(policy(0, &["acme"]).has("acme", "k"));
        assert!(!policy(0, &["acme"]).has("globex", "k"));
        let part = policy(40, &[]);
        let inside = (0..1_000).filter(|n| part.has("acme", &n.to_string())).count();
        assert!((300..500).contains(&inside), "{inside} of 1000");
    }

    #[test]
    fn an_old_look_counts_no_more() {
        let seen = Seen::new(Duration::ZERO);
        seen.put(policy(1, &[]));
        assert_eq!(seen.get(), None);
        let seen = Seen::new(Duration::from_secs(60));
        assert_eq!(seen.get(), None, "before the first");
        seen.put(policy(1, &[]));
        assert_eq!(seen.get().map(|it| it.percent), Some(1));
    }
}
