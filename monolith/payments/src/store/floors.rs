//! Where looks begin.
//!
//! Work that is done leaves dead entries in the indexes, before all that is left; while any transaction has an older snapshot, nobody
//! may remove them. So an engine remembers which tenants had something due and where the first of it lay: a tenant's *floor*. It
//! never passes a row that was seen and is due still.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::Instant;

use super::look::Seen;

/// Known tenants that one look visits at most.
const TENANTS_MAX: usize = 64;
/// Tenants that one look walks over at most.
const WALK_MAX: i32 = 64;
/// Tenants that are known at most; others are visited by walks only.
const KNOWN_MAX: usize = 10_000;
/// The pause between two walks over all tenants from their beginning. They find what was put below a floor or was committed more
/// than [`super::look::LATE`] after its time.
const WALK_EVERY: Duration = Duration::from_secs(2);
/// A walk rests for this many times as long as it took, if that is longer.
const WALK_REST: u32 = 10;
/// The longest pause between two walks, and the one after a walk that failed.
const WALK_REST_MAX: Duration = Duration::from_secs(20);

/// What an engine remembers of its looks at one table.
#[derive(Debug, Default)]
pub(crate) struct Floors {
    /// By tenant that had something due: when the first of it was.
    known: BTreeMap<String, OffsetDateTime>,
    /// The known tenant after which the next look begins; empty: with the first.
    known_after: String,
    /// Whatever became due until then was seen; by the database's clock.
    since: Option<OffsetDateTime>,
    /// The tenant after which the walk goes on; empty: with the first.
    walked_to: String,
    /// How long the walk's looks took so far.
    walk_took: Duration,
    /// `None`: no walk has ended yet.
    walk_due: Option<Instant>,
}

/// Where one look begins.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) walk_after: String,
    /// Tenants to walk over at most; 0: none is due.
    pub(crate) walk_max: i32,
    pub(crate) since: Option<OffsetDateTime>,
    pub(crate) tenants: Vec<String>,
    /// One for each of `tenants`.
    pub(crate) floors: Vec<OffsetDateTime>,
}

impl Floors {
    /// Where the next look begins.
    pub(crate) fn start(&self) -> Start {
        let walks = self.walk_due.is_none_or(|due| due <= Instant::now());
        let after = (Bound::Excluded(self.known_after.as_str()), Bound::Unbounded);
        let known = self.known.range::<str, _>(after).take(TENANTS_MAX);
        let (tenants, floors): (Vec<_>, Vec<_>) =
            known.map(|(tenant, floor)| (tenant.clone(), *floor)).unzip();
        Start {
            walk_after: self.walked_to.clone(),
            walk_max: if walks { WALK_MAX } else { 0 },
            since: self.since,
            tenants,
            floors,
        }
    }

    /// Takes in what the look saw that began there.
    pub(super) fn absorb(&mut self, start: &Start, seen: Seen, took: Duration) {
        for (tenant, floor) in seen.tenants.into_iter().zip(seen.floors) {
            // One that came out of its turn was not looked at from its floor on.
            let in_turn = start.tenants.binary_search(&tenant).is_ok();
            let known = self.known.get(&tenant).copied();
            match floor {
                Some(floor) if known.is_some() || self.known.len() < KNOWN_MAX => {
                    let lowest = known.filter(|known| !in_turn && *known < floor).unwrap_or(floor);
                    self.known.insert(tenant, lowest);
                }
                // What becomes due later comes with the time.
                None if in_turn => {
                    self.known.remove(&tenant);
                }
                Some(_) | None => {}
            }
        }
        self.since = Some(seen.since);
        let last = start.tenants.last().filter(|_| start.tenants.len() == TENANTS_MAX);
        self.known_after = last.cloned().unwrap_or_default();
        if start.walk_max == 0 {
            return;
        }
        self.walk_took += took;
        self.walked_to = seen.walked_to;
        if self.walked_to.is_empty() {
            let rest = (self.walk_took * WALK_REST).clamp(WALK_EVERY, WALK_REST_MAX);
            self.walk_due = Some(Instant::now() + rest);
            self.walk_took = Duration::ZERO;
        }
    }

    /// A look that failed is repeated from where it began, but without its walk: known tenants don't wait for that.
    pub(super) fn failed(&mut self, start: &Start) {
        if start.walk_max > 0 {
            self.walk_due = Some(Instant::now() + WALK_REST_MAX);
        }
    }

    /// The next look begins with the first tenant again.
    pub(crate) fn is_through(&self) -> bool {
        self.known_after.is_empty() && self.walked_to.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(second).unwrap()
    }

    fn seen(of: &[(&str, Option<i64>)]) -> Seen {
        Seen {
            ids: Vec::new(),
            tenants: of.iter().map(|(tenant, _)| (*tenant).to_owned()).collect(),
            floors: of.iter().map(|(_, floor)| floor.map(at)).collect(),
            since: at(100),
            walked_to: String::new(),
        }
    }

    #[test]
    fn what_comes_out_of_a_tenants_turn_does_not_lift_its_floor() {
        let mut floors = Floors::default();
        let names: Vec<String> = (0..70).map(|n| format!("t{n:02}")).collect();
        let all: Vec<_> = names.iter().map(|name| (name.as_str(), Some(10))).collect();
        floors.absorb(&floors.start(), seen(&all), Duration::ZERO);
        let start = floors.start();
        assert_eq!((start.tenants.len(), floors.is_through()), (TENANTS_MAX, true));
        floors.absorb(&start, seen(&all[..TENANTS_MAX]), Duration::ZERO);

        // The turn is at the last six; the first has another row due, and then has not.
        for floor in [Some(90), None] {
            let start = floors.start();
            assert_eq!(start.tenants, names[TENANTS_MAX..]);
            let arrived = [&[("t00", floor)], &all[TENANTS_MAX..]].concat();
            floors.absorb(&start, seen(&arrived), Duration::ZERO);
            let start = floors.start();
            assert_eq!((start.tenants[0].as_str(), start.floors[0]), ("t00", at(10)));
            floors.absorb(&start, seen(&all[..TENANTS_MAX]), Duration::ZERO);
        }
    }

    #[test]
    fn a_walk_rests_for_a_bounded_time_and_one_that_failed_leaves_the_known_their_looks() {
        let mut floors = Floors::default();
        let walking = floors.start();
        assert_eq!(walking.walk_max, WALK_MAX);
        floors.failed(&walking);
        assert_eq!(floors.start().walk_max, 0);
        floors.walk_due = None;
        floors.absorb(&walking, seen(&[]), Duration::from_secs(60));
        assert_eq!(floors.start().walk_max, 0);
        assert!(floors.walk_due.is_some_and(|due| due <= Instant::now() + WALK_REST_MAX), "{floors:?}");
    }
}
