//! What the module counts, as OpenTelemetry instruments. `docs/telemetry.md` lists the names as Prometheus shows them.
//!
//! Whoever owns a [`Meter`] makes one [`Metrics`] of it per process. Labels are operations, states and results; never a payment
//! or a tenant.

mod observer;

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{
    Counter, Histogram, Meter, MeterProvider as _, NoopMeterProvider, ObservableGauge, UpDownCounter,
};

use crate::provider::Lamp;

pub use observer::observe;
use observer::{Gauges, Observed};

/// Upper bounds of the histogram's buckets, in seconds: a request may take up to 3 s.
const BUCKETS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0];

/// The instruments. Clones share them.
#[derive(Clone)]
pub struct Metrics(Arc<Instruments>);

struct Instruments {
    calls: Histogram<f64>,
    held_back: Counter<u64>,
    commands: UpDownCounter<i64>,
    mismatches: Counter<u64>,
    lamp: Lamp,
    gauges: Gauges,
    _circuit: ObservableGauge<i64>,
}

/// A command in flight, until it is dropped.
pub(crate) struct InFlight(Metrics);

impl Metrics {
    /// Makes the instruments. Once per meter: a second set would report the same gauges beside the first.
    pub fn new(meter: &Meter) -> Self {
        let lamp = Lamp::default();
        let shown = lamp.clone();
        let mismatches = meter
            .u64_counter("payments.replica.mismatches")
            .with_description("Payments that were given up, of which the copy here was not the owner's.")
            .build();
        // Shown from the beginning: an alert sees the first one.
        mismatches.add(0, &[]);
        let circuit = meter
            .i64_observable_gauge("payments.provider.circuit")
            .with_description("0: requests are sent; 1: one at a time; 2: held back.")
            .with_callback(move |to| to.observe(shown.number(), &[]));
        Self(Arc::new(Instruments {
            calls: meter
                .f64_histogram("payments.provider.call.duration")
                .with_description("One request to the provider, by operation and what came of it.")
                .with_unit("s")
                .with_boundaries(BUCKETS.to_vec())
                .build(),
            held_back: meter
                .u64_counter("payments.provider.held_back")
                .with_description("Requests that were not sent, for the circuit was open or the provider asked for a pause.")
                .build(),
            commands: meter
                .i64_up_down_counter("payments.commands")
                .with_description("Commands in this process that are in their first try, or whose callers wait for an engine.")
                .build(),
            mismatches,
            gauges: Gauges::new(meter),
            _circuit: circuit.build(),
            lamp,
        }))
    }

    /// Counts nothing.
    pub fn noop() -> Self {
        Self::new(&NoopMeterProvider::new().meter("payments"))
    }

    /// One request to the provider. Both words are the code's.
    pub(crate) fn called(&self, operation: &'static str, result: &'static str, took: Duration) {
        let labels = [KeyValue::new("operation", operation), KeyValue::new("result", result)];
        self.0.calls.record(took.as_secs_f64(), &labels);
    }

    /// One that was not sent.
    pub(crate) fn held_back(&self, operation: &'static str) {
        self.0.held_back.add(1, &[KeyValue::new("operation", operation)]);
    }

    /// A copy was not its owner's.
    pub(crate) fn mismatch(&self) {
        self.0.mismatches.add(1, &[]);
    }

    /// A command begins.
    pub(crate) fn command(&self) -> InFlight {
        self.0.commands.add(1, &[]);
        InFlight(self.clone())
    }

    /// What the circuit breaker of this process shows itself by.
    pub(crate) fn lamp(&self) -> Lamp {
        self.0.lamp.clone()
    }

    fn observed(&self, observed: Observed) {
        self.0.gauges.show(Some(observed));
    }

    /// Nobody reads the gauges any more.
    fn unobserved(&self) {
        self.0.gauges.show(None);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.0.commands.add(-1, &[]);
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::noop()
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}
