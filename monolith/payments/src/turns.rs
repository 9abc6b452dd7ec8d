//! Turns: so many of something at once, of which no tenant has more than half.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Tenant;

/// A bounded number of turns. Nobody waits for one: whoever finds none is told so and may come again. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Turns {
    max: usize,
    taken: Arc<Mutex<Taken>>,
}

/// A turn of a tenant, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Turns,
    tenant: Tenant,
}

/// Has an entry for each tenant that has a turn, and for no other.
#[derive(Debug, Default)]
struct Taken {
    all: usize,
    of: HashMap<Tenant, usize>,
}

impl Turns {
    /// So many at once.
    pub(crate) fn new(max: usize) -> Self {
        Self { max, taken: Arc::default() }
    }

    /// A turn, unless all are taken, or the tenant has its half.
    pub(crate) fn take(&self, tenant: &Tenant) -> Option<Turn> {
        let mut taken = self.taken();
        let of_tenant = taken.of.get(tenant).copied().unwrap_or_default();
        if taken.all >= self.max || of_tenant >= self.of_tenant_max() {
            return None;
        }
        taken.all += 1;
        taken.of.insert(tenant.clone(), of_tenant + 1);
        Some(Turn { turns: self.clone(), tenant: tenant.clone() })
    }

    /// How many there are.
    pub(crate) fn max(&self) -> usize {
        self.max
    }

    /// How many of them one tenant may have.
    pub(crate) fn of_tenant_max(&self) -> usize {
        self.max.div_ceil(2)
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut taken = self.turns.taken();
        taken.all = taken.all.saturating_sub(1);
        let left = taken.of.get(&self.tenant).map_or(0, |count| count.saturating_sub(1));
        if left == 0 {
            taken.of.remove(&self.tenant);
        } else {
            taken.of.insert(self.tenant.clone(), left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_has_half_and_a_turn_that_ends_is_free_again() {
        let turns = Turns::new(4);
        let take = |tenant: &str| turns.take(&tenant.parse().unwrap());
        let (first, second) = (take("acme").unwrap(), take("acme").unwrap());
        assert!(take("acme").is_none(), "its half is taken");
        let others = (take("one").unwrap(), take("two").unwrap());
        assert!(take("three").is_none(), "all are taken");
        drop(first);
        let again = take("acme").unwrap();
        drop((second, others, again));
        let taken = turns.taken();
        assert_eq!((taken.all, taken.of.len()), (0, 0), "nothing is kept of whoever has no turn");
    }
}
