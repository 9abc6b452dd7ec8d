//! What is counted. `docs/webhooks.md` has the names and the alerts.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Meter};

use crate::State;
use crate::store::Open;

/// The instruments. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    received: Counter<u64>,
    told: Counter<u64>,
    kept: Gauge<i64>,
    oldest: Gauge<f64>,
    looked_at: Arc<Mutex<Option<Instant>>>,
}

impl Metrics {
    /// Makes them; once per process.
    pub fn new(meter: &Meter) -> Self {
        let looked_at: Arc<Mutex<Option<Instant>>> = Arc::default();
        let seen = Arc::clone(&looked_at);
        meter
            .f64_observable_gauge("webhooks.observation.age")
            .with_unit("s")
            .with_description("Since the gauges of webhooks were last read, or the dispatcher began.")
            .with_callback(move |observer| {
                let looked_at = *seen.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(looked_at) = looked_at {
                    observer.observe(looked_at.elapsed().as_secs_f64(), &[]);
                }
            })
            .build();
        Self {
            received: meter
                .u64_counter("webhooks.received")
                .with_description(
                    "Webhooks that came, by their answer: stored, repeated, failed, or why refused.",
                )
                .build(),
            told: meter
                .u64_counter("webhooks.told")
                .with_description("Tries to give a notice to the owner of its payment, by what it said.")
                .build(),
            kept: meter
                .i64_gauge("webhooks.kept")
                .with_description("Notices that nobody has taken, by state.")
                .build(),
            oldest: meter
                .f64_gauge("webhooks.oldest.undelivered.age")
                .with_unit("s")
                .with_description("Age of the oldest notice that is waiting or early; 0 without one.")
                .build(),
            looked_at,
        }
    }

    pub(crate) fn received(&self, answer: &'static str) {
        self.received.add(1, &[KeyValue::new("answer", answer)]);
    }

    pub(crate) fn told(&self, verdict: &'static str) {
        self.told.add(1, &[KeyValue::new("verdict", verdict)]);
    }

    /// From here on, a reading that does not come shows.
    pub(crate) fn begin(&self) {
        *self.looked_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    pub(crate) fn observed(&self, open: &[Open]) {
        let of = |state: State| open.iter().find(|open| open.state == state.word());
        for state in State::ALL.into_iter().filter(|state| state.is_open()) {
            let count = of(state).map_or(0, |open| open.count);
            self.kept.record(count, &[KeyValue::new("state", state.word())]);
        }
        let undelivered = [State::Waiting, State::Early].into_iter().filter_map(of);
        let oldest_age_s = undelivered.map(|open| open.oldest_age_s).fold(0.0, f64::max);
        self.oldest.record(oldest_age_s, &[]);
        self.begin();
    }
}
