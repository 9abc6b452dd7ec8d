//! What the leases and the topics mean for the running relay, and for those who ask how it is.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use tokio::time::Instant;

use super::{engine::Engine, jobs::Lease};
use crate::{Error, Sink};

/// So long after the last try a topic is no longer said to take nothing; one that has anything to send is tried more often.
const UNWRITABLE_FOR: Duration = Duration::from_secs(60);

impl<S: Sink> Engine<S> {
    /// Which buckets are ours from now on.
    pub(super) fn leased(&mut self, asked: Instant, lease: Result<Lease, Error>) -> Option<Error> {
        let lease = match lease {
            Ok(lease) => lease,
            Err(error) => return Some(error),
        };
        self.outage = self.options.outage_delay_min;
        let (buckets, cut_off, name_is_taken) = match lease {
            Lease::Held { buckets, name_is_taken } => (buckets, None, name_is_taken),
            Lease::CutOff(why) => {
                tracing::warn!(error = why, "cut off from the broker; the buckets are free");
                (Vec::new(), Some(why), false)
            }
        };
        if asked >= self.due.lease_ends {
            // The leases had ended: another relay may have sent what is in memory here.
            self.hold(&[]);
        }
        if cut_off.is_none() {
            // Counted from before the question, so that it ends here no later than in the database.
            self.due.lease_ends = asked + self.options.lease_ttl;
            self.due.lease = asked + self.options.lease_ttl / 3;
            if self.flight.is_cut_off() {
                self.flight.reconnected();
            }
        } else {
            self.due.lease = Instant::now() + self.options.outage_delay_max;
        }
        self.hold(&buckets);
        self.status.send_if_modified(|status| {
            let before = status.clone();
            if asked >= self.due.denied {
                status.database = None;
            }
            status.broker = cut_off;
            status.buckets = buckets.len();
            status.name_is_taken = name_is_taken;
            *status != before
        });
        None
    }

    /// The leases have ended and no renewal was answered: what was ours is for other relays.
    pub(super) fn lapsed(&self) {
        if self.flight.is_cut_off() {
            return;
        }
        self.status.send_if_modified(|status| {
            let held = status.buckets > 0;
            if held {
                status.buckets = 0;
                let why = || "no answer to the renewal of the leases, which have ended".to_owned();
                status.database.get_or_insert_with(why);
            }
            held
        });
    }

    /// A topic took nothing, whatever was sent to it.
    pub(super) fn unwritable(&mut self, topic: &str, why: String) {
        self.unwritable.insert(topic.to_owned(), (why.clone(), Instant::now()));
        self.status.send_if_modified(|status| {
            status.missing.insert(topic.to_owned(), why.clone()).is_none_or(|before| before != why)
        });
    }

    /// A topic took a record: it is looked after soon, if it did not before.
    pub(super) fn writable(&mut self, topic: &str) {
        if !self.unwritable.is_empty() && self.unwritable.remove(topic).is_some() {
            self.due.look = Instant::now();
        }
    }

    /// Reads and sends these buckets only.
    pub(super) fn hold(&mut self, buckets: &[i16]) {
        let buckets: HashSet<i16> = buckets.iter().copied().collect();
        self.window.keep(&buckets);
        self.flight.lanes.keep(|position| self.window.contains(position));
        self.reader.keep(&buckets);
    }

    /// Which topics can't be written to.
    pub(super) fn looked(&mut self, missing: Result<Vec<(String, String)>, Error>) -> Option<Error> {
        let missing = match missing {
            Ok(missing) => missing,
            // The broker's silence shows elsewhere, by what is not delivered.
            Err(Error::Broker(why)) => {
                tracing::warn!(error = why, "the topics could not be looked after");
                return None;
            }
            Err(error) => return Some(error),
        };
        self.unwritable.retain(|_, (_, tried)| tried.elapsed() < UNWRITABLE_FOR);
        let mut missing: BTreeMap<_, _> = missing.into_iter().collect();
        for (topic, (why, _)) in &self.unwritable {
            missing.entry(topic.clone()).or_insert_with(|| why.clone());
        }
        // The cluster may answer every question and take no record all the same, as without enough replicas in sync.
        for (topic, why) in self.flight.lanes.silent(self.options.lease_ttl) {
            missing.entry(topic.to_owned()).or_insert_with(|| format!("a partition of it is down: {why}"));
        }
        self.status.send_if_modified(|status| {
            let changed = status.missing != missing || !status.started;
            status.missing = missing;
            status.started = true;
            changed
        });
        None
    }
}
