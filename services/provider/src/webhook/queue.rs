//! The events that wait to be delivered: which is next, and when.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use axum::body::Bytes;

use super::Webhooks;
use crate::clock::millis;
use crate::control::Mischief;

/// Events that wait at most. Beyond it the oldest is given up, as a real provider gives up after days.
const WAITING_MAX: usize = 100_000;

/// Deliveries at the same time.
const ABREAST_MAX: usize = 32;

/// The longest wait between two attempts.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// What waits. Attempts are counted from the start of the process on: what a restart finds undelivered begins anew.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// In the order of the journal.
    waiting: BTreeMap<u64, Waiting>,
    /// Who is next, and when, in milliseconds since 1970. What is being sent is not in here.
    due: BTreeSet<(i64, u64)>,
    places: HashMap<String, u64>,
    last: u64,
    given_up: u64,
    mischief: Mischief,
}

#[derive(Debug)]
struct Waiting {
    id: String,
    /// The line that must be on disk before anyone hears of it.
    seq: u64,
    body: Bytes,
    made_ms: i64,
    /// When it is due; it stands in `due` unless it is being sent.
    due_ms: i64,
    /// How many attempts failed.
    failed: u32,
    /// How many times it is still to be delivered; more than once only on purpose.
    deliveries: u32,
}

/// One delivery.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) place: u64,
    pub(super) seq: u64,
    pub(super) body: Bytes,
}

/// How many events wait, and how many were given up since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Count {
    waiting: usize,
    given_up: u64,
}

impl Queue {
    pub(crate) fn push(&mut self, id: String, seq: u64, made_ms: i64, body: Bytes) {
        self.last += 1;
        let deliveries = 1 + self.mischief.duplicate;
        let due_ms = made_ms.saturating_add(self.mischief.hold_ms);
        self.due.insert((due_ms, self.last));
        self.places.insert(id.clone(), self.last);
        self.waiting.insert(self.last, Waiting { id, seq, body, made_ms, due_ms, failed: 0, deliveries });
    }

    /// An event that is through, by its id.
    pub(crate) fn delivered(&mut self, id: &str) {
        let place = self.places.remove(id);
        if let Some((place, waiting)) = place.and_then(|place| self.waiting.remove_entry(&place)) {
            self.due.remove(&(waiting.due_ms, place));
        }
    }

    /// Goes by another order from now on. Events that were not tried yet are held as it says, or let go.
    pub(crate) fn obey(&mut self, mischief: Mischief) {
        let untried: Vec<(i64, u64)> =
            self.due.iter().copied().filter(|(_, place)| self.is_untried(*place)).collect();
        for (due_ms, place) in untried {
            let Some(waiting) = self.waiting.get_mut(&place) else { continue };
            self.due.remove(&(due_ms, place));
            waiting.due_ms = waiting.made_ms.saturating_add(mischief.hold_ms);
            self.due.insert((waiting.due_ms, place));
        }
        self.mischief = mischief;
    }

    pub(crate) fn count(&self) -> Count {
        Count { waiting: self.waiting.len(), given_up: self.given_up }
    }

    /// How many deliveries may run at the same time; one, when the order is to be seen.
    pub(super) fn abreast(&self) -> usize {
        if self.mischief.reverse { 1 } else { ABREAST_MAX }
    }

    /// When the next one is due.
    pub(super) fn next_ms(&self) -> Option<i64> {
        self.due.first().map(|(due_ms, _)| *due_ms)
    }

    /// Takes out what is due: the oldest, or, where the order is reversed, the newest of it that was not tried yet.
    pub(super) fn claim(&mut self, now_ms: i64) -> Option<Parcel> {
        let first = *self.due.first().filter(|(due_ms, _)| *due_ms <= now_ms)?;
        let newest = || {
            let due = self.due.iter().copied().take_while(|(due_ms, _)| *due_ms <= now_ms);
            due.filter(|(_, place)| self.is_untried(*place)).max_by_key(|(_, place)| *place)
        };
        let next = if self.mischief.reverse { newest().unwrap_or(first) } else { first };
        self.due.remove(&next);
        let (_, place) = next;
        self.waiting.get(&place).map(|waiting| Parcel { place, seq: waiting.seq, body: waiting.body.clone() })
    }

    /// What became of a delivery. Returns the event's id when it is not to be tried again.
    pub(super) fn ended(
        &mut self,
        place: u64,
        taken: bool,
        now_ms: i64,
        settings: &Webhooks,
    ) -> Option<String> {
        let waiting = self.waiting.get_mut(&place)?;
        if taken {
            waiting.deliveries -= 1;
            if waiting.deliveries == 0 {
                return Some(waiting.id.clone());
            }
            waiting.due_ms = now_ms;
        } else {
            waiting.failed += 1;
            if waiting.failed >= settings.attempts_max {
                self.given_up += 1;
                tracing::error!(event = waiting.id, "a webhook was given up; nobody took it");
                return Some(waiting.id.clone());
            }
            waiting.due_ms = now_ms.saturating_add(backoff_ms(settings.retry, waiting.failed));
        }
        self.due.insert((waiting.due_ms, place));
        None
    }

    /// The oldest events beyond the bound, by id; they are not tried again.
    pub(super) fn surplus(&mut self) -> Vec<String> {
        let surplus = self.waiting.len().saturating_sub(WAITING_MAX);
        if surplus > 0 {
            self.given_up += u64::try_from(surplus).unwrap_or(u64::MAX);
            tracing::error!(surplus, "more webhooks wait than may; the oldest are given up");
        }
        self.waiting.values().take(surplus).map(|waiting| waiting.id.clone()).collect()
    }

    fn is_untried(&self, place: u64) -> bool {
        self.waiting.get(&place).is_some_and(|waiting| waiting.failed == 0)
    }
}

/// Doubles with each failure, up to [`RETRY_MAX`].
fn backoff_ms(retry: Duration, failed: u32) -> i64 {
    let doublings = failed.saturating_sub(1).min(20);
    millis(retry.saturating_mul(1 << doublings).min(RETRY_MAX))
}

#[cfg(test)]
mod tests {
    use chassis::Secret;

    use super::*;

    fn queue(mischief: Mischief) -> Queue {
        let mut queue = Queue::default();
        queue.obey(mischief);
        for (id, made_ms) in [("evt_1", 10), ("evt_2", 20), ("evt_3", 30)] {
            queue.push(id.into(), 1, made_ms, Bytes::from_static(id.as_bytes()));
        }
        queue
    }

    fn claimed(queue: &mut Queue, now_ms: i64) -> Vec<Bytes> {
        std::iter::from_fn(|| queue.claim(now_ms)).map(|parcel| parcel.body).collect()
    }

    fn settings() -> Webhooks {
        let url = "http://127.0.0.1:1".parse().unwrap();
        Webhooks { url, secret: Secret::new("whsec_1"), retry: Duration::from_millis(100), attempts_max: 3 }
    }

    #[test]
    fn events_go_in_order_when_they_are_due() {
        let mut queue = queue(Mischief::default());
        assert_eq!(claimed(&mut queue, 20), ["evt_1", "evt_2"]);
        assert_eq!(queue.next_ms(), Some(30));
    }

    #[test]
    fn held_events_go_newest_first_where_the_order_is_reversed() {
        let mut queue = queue(Mischief { reverse: true, hold_ms: 100, duplicate: 0 });
        assert_eq!(claimed(&mut queue, 109), [""; 0]);
        assert_eq!(claimed(&mut queue, 120), ["evt_2", "evt_1"], "the newest of all is not old enough");
        assert_eq!(queue.next_ms(), Some(130));
        assert_eq!(claimed(&mut queue, 130), ["evt_3"]);
    }

    #[test]
    fn an_event_that_nobody_takes_is_tried_later_and_later_and_given_up() {
        let mut queue = queue(Mischief::default());
        let mut at = 10;
        for wait in [100, 200] {
            let parcel = queue.claim(at).unwrap();
            assert_eq!(parcel.body, "evt_1");
            assert_eq!(queue.ended(parcel.place, false, at, &settings()), None);
            queue.due.retain(|(_, place)| *place == parcel.place);
            assert_eq!(queue.next_ms(), Some(at + wait));
            at += wait;
        }
        let parcel = queue.claim(at).unwrap();
        assert_eq!(queue.ended(parcel.place, false, at, &settings()), Some("evt_1".into()));
        queue.delivered("evt_1");
        assert_eq!(queue.count(), Count { waiting: 2, given_up: 1 });
    }

    #[test]
    fn a_doubled_event_is_delivered_again_after_it_was_taken() {
        let mut queue = queue(Mischief { duplicate: 1, ..Mischief::default() });
        let parcel = queue.claim(10).unwrap();
        assert_eq!(queue.ended(parcel.place, true, 10, &settings()), None);
        let parcel = queue.claim(10).unwrap();
        assert_eq!(parcel.body, "evt_1");
        assert_eq!(queue.ended(parcel.place, true, 10, &settings()), Some("evt_1".into()));
    }

    #[test]
    fn what_waits_is_bounded_and_the_oldest_goes() {
        let mut queue = queue(Mischief::default());
        for number in 0..WAITING_MAX - 2 {
            queue.push(format!("evt_more_{number}"), 1, 40, Bytes::new());
        }
        assert_eq!(queue.surplus(), ["evt_1"]);
        queue.delivered("evt_1");
        assert_eq!(queue.surplus(), [""; 0]);
        assert_eq!(queue.count(), Count { waiting: WAITING_MAX, given_up: 1 });
    }
}
