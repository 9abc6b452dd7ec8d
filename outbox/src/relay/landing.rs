//! From the log to the sink, and what becomes of each record.

use std::{collections::HashMap, time::Duration};

use time::OffsetDateTime;
use tokio::time::Instant;

use super::{
    engine::{Engine, MUCH, OVERLAP},
    flight::{Departure, Flight, Landing, Sent},
    jobs,
};
use crate::{
    Error, Refusal, Sink,
    store::{Delivered, Due, Fetched, Logged, Refusals},
};

/// Rows forgotten by one statement.
const REMOVE_MAX: usize = 4_096;

/// Deletions rest so long after one, unless much waits for the next, or a key's next event does.
const REMOVE_REST: Duration = Duration::from_millis(10);

impl<S: Sink> Engine<S> {
    /// Sends the events that were fetched, as far as their buckets are still ours.
    pub(super) fn fetched(
        &mut self,
        rows: Vec<Departure>,
        events: Result<Vec<(i64, Fetched)>, Error>,
    ) -> Option<Error> {
        let (events, failed) = match events {
            Ok(events) => (events, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        let mut rows: HashMap<i64, Departure> = rows.into_iter().map(|row| (row.position, row)).collect();
        for (position, event) in events {
            let Some(row) = rows.remove(&position) else { continue };
            let ours = row.refused_before || self.window.is_taken(position);
            if !ours || self.stopping || Instant::now() >= self.due.lease_ends {
                self.put_back(row);
                continue;
            }
            match event {
                Fetched::Event(event) => {
                    if let Err(lane) = self.flight.send(row, *event) {
                        self.hold_back(row.refused_before, position, lane);
                    }
                }
                Fetched::Missing => {
                    self.note_refusal(row, "its event is missing from outbox.event, or unreadable");
                }
                Fetched::NoRoom => self.put_back(row),
            }
        }
        for row in rows.into_values() {
            self.put_back(row);
        }
        failed
    }

    /// Sends the events that came with their rows, if there is room for all that is ready. The others are fetched in turn.
    pub(super) fn send_brought(&mut self, events: Vec<(i64, Logged)>) {
        if self.stopping || Instant::now() >= self.due.lease_ends {
            return;
        }
        for (position, event) in events {
            let (rows, bytes) = self.flight.room(self.busy.rows);
            if rows < self.window.ready() || bytes <= self.busy.bytes {
                return;
            }
            let Some(row) = self.window.take_this(position) else { continue };
            if let Err(lane) = self.flight.send(Departure::first(row), event) {
                self.hold_back(false, position, lane);
            }
        }
    }

    fn put_back(&mut self, row: Departure) {
        if row.refused_before {
            self.retry_later(row.position);
        } else {
            self.window.put_back(row.position);
        }
    }

    /// A refused record was not tried after all: its turn comes again.
    fn retry_later(&mut self, position: i64) {
        self.retries.end(position);
        self.due.refused = Instant::now() + self.options.refused_every;
    }

    /// The record's lane is down: its key waits for the lane. What can't be kept in mind is read again later.
    fn hold_back(&mut self, refused_before: bool, position: i64, lane: u64) {
        if refused_before {
            // It has moved behind the other refused ones: they are next.
            self.settled(position);
        } else if !self.window.contains(position) {
            // Its bucket went to another relay.
        } else if self.window.hold(position) {
            self.flight.lanes.hold(lane, position);
        } else {
            self.flight.lanes.drop(lane, position);
        }
    }

    /// Takes a report in.
    pub(super) fn land(&mut self, landing: Landing) {
        let released = self.flight.note(&landing);
        for position in released.positions {
            self.window.unhold(position);
        }
        if released.dropped {
            self.reader.look_again();
        }
        if released.outage {
            self.due.look = Instant::now();
        }
        let (sent, result) = landing;
        match result {
            Ok(()) => {
                self.metrics.sent(&sent.topic);
                self.writable(&sent.topic);
                // The clocks of two machines may differ by more than that.
                let took =
                    Duration::try_from(OffsetDateTime::now_utc() - sent.created_at).unwrap_or_default();
                self.metrics.commit_to_broker(&sent.topic, took);
                self.delivered.push((sent.bucket, sent.position, sent.created_at));
            }
            Err(Refusal::Record(why)) => {
                self.metrics.refused(&sent.topic);
                if sent.attempts.saturating_add(1) >= self.options.attempts_max {
                    self.metrics.quarantined(&sent.topic);
                }
                self.note_refusal(departure(&sent), &why);
            }
            Err(Refusal::Topic(why)) => {
                self.metrics.refused(&sent.topic);
                tracing::warn!(error = why, topic = sent.topic, "a topic can't be written to; its keys wait");
                self.unwritable(&sent.topic, why);
                self.hold_back(sent.refused_before, sent.position, Flight::<S>::lane_of(&sent));
            }
            Err(outage @ Refusal::Outage(_)) => {
                self.metrics.outage();
                let (topic, in_flight) = (&sent.topic, self.flight.len());
                tracing::warn!(error = %outage, topic, in_flight, "the broker is down; the relay waits");
                self.hold_back(sent.refused_before, sent.position, Flight::<S>::lane_of(&sent));
            }
        }
    }

    fn note_refusal(&mut self, row: Departure, why: &str) {
        let doublings = u32::try_from(row.attempts.clamp(0, 16)).unwrap_or(0);
        let delay = self.options.refusal_delay_min.saturating_mul(2u32.pow(doublings));
        let (position, attempts) = (row.position, row.attempts.saturating_add(1));
        tracing::error!(position, attempts, error = why, "a record was refused; its key waits");
        self.refusals.buckets.push(row.bucket);
        self.refusals.positions.push(position);
        self.refusals.times.push(row.created_at);
        self.refusals.errors.push(why.replace('\0', "\u{fffd}"));
        self.refusals.delays.push(delay.min(self.options.refusal_delay_max).as_secs_f64());
    }

    /// Forgets what was delivered, and notes what was refused.
    pub(super) fn start_removals(&mut self) {
        let waiting = self.delivered.len();
        let wanted = if self.busy.removals == 0 { self.removal_is_due() } else { waiting >= MUCH };
        if waiting > 0 && wanted && self.busy.removals < OVERLAP {
            let rows = self.delivered.drain(..waiting.min(REMOVE_MAX)).collect();
            self.busy.removals += 1;
            let noted = self.options.note_deliveries && Instant::now() >= self.due.notes;
            self.jobs.push(jobs::remove(self.database.clone(), rows, noted));
        }
        if !self.busy.refusal && !self.refusals.positions.is_empty() {
            self.busy.refusal = true;
            let refusals = std::mem::take(&mut self.refusals);
            self.jobs.push(jobs::refuse(self.database.clone(), refusals, self.options.attempts_max));
        }
    }

    fn removal_is_due(&self) -> bool {
        let waited_for =
            || self.delivered.iter().any(|(_, position, _)| self.window.is_waited_for(*position));
        self.stopping || self.delivered.len() >= MUCH || Instant::now() >= self.due.removal || waited_for()
    }

    /// Their deletion has committed, or they are still to be forgotten. When not `all` of them were there, another relay has
    /// deleted some, or the database was set back and other events stand in their places: their keys are read anew.
    pub(super) fn removed(&mut self, rows: Vec<Delivered>, all: Result<bool, Error>) -> Option<Error> {
        self.due.removal = Instant::now() + REMOVE_REST;
        let all = match all {
            Ok(all) => all,
            Err(error) => {
                self.delivered.extend(rows);
                return Some(error);
            }
        };
        for (_, position, _) in rows {
            if all {
                self.window.removed(position);
            } else {
                self.window.mistaken(position);
            }
            self.settled(position);
        }
        if !all {
            self.reader.look_again();
        }
        None
    }

    /// Their refusal is noted, or still to be noted.
    pub(super) fn refused(
        &mut self,
        refusals: Refusals,
        quarantined: Result<Vec<i64>, Error>,
    ) -> Option<Error> {
        match quarantined {
            Ok(quarantined) => {
                for position in quarantined {
                    tracing::error!(position, "a record is in quarantine: see outbox.quarantine");
                }
                for (bucket, position) in refusals.buckets.iter().zip(&refusals.positions) {
                    self.window.refused(*bucket, *position);
                    self.settled(*position);
                }
                None
            }
            Err(error) => {
                self.refusals.buckets.extend(refusals.buckets);
                self.refusals.positions.extend(refusals.positions);
                self.refusals.times.extend(refusals.times);
                self.refusals.errors.extend(refusals.errors);
                self.refusals.delays.extend(refusals.delays);
                Some(error)
            }
        }
    }

    /// The one that was tried again is through: the next may be.
    fn settled(&mut self, position: i64) {
        if self.retries.end(position) {
            self.due.refused = Instant::now();
        }
    }

    /// A refused row's turn has come again, if there is one.
    pub(super) fn refused_due(&mut self, due: Result<Option<Due>, Error>) -> Option<Error> {
        let due = match due {
            Ok(due) => due,
            Err(error) => return Some(error),
        };
        let Some(Due { bucket, position, created_at, attempts }) = due else {
            self.due.refused = Instant::now() + self.options.refused_every;
            return None;
        };
        // On its way: since long, or as one that another relay found refused meanwhile. It has moved behind the others.
        if self.window.is_taken(position) || !self.retries.begin(position, Instant::now()) {
            return None;
        }
        self.window.refused(bucket, position);
        self.fetch(vec![Departure { bucket, position, created_at, attempts, refused_before: true }], 1);
        None
    }
}

fn departure(sent: &Sent) -> Departure {
    Departure {
        bucket: sent.bucket,
        position: sent.position,
        created_at: sent.created_at,
        attempts: sent.attempts,
        refused_before: sent.refused_before,
    }
}
