//! What relays and inboxes count, as OpenTelemetry instruments. `docs/telemetry.md` lists the names as Prometheus shows them.
//!
//! No global is read: whoever owns a [`Meter`] makes one [`Metrics`] of it per process and passes clones on. Labels are only
//! topics, handlers and verdicts, all of them few; never a key or a tenant.

mod observer;

use std::{sync::Arc, time::Duration};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram, Meter, MeterProvider as _, NoopMeterProvider},
};

pub use self::observer::observe;
use self::observer::{Gauges, Observed};

/// Upper bounds of the histograms' buckets, in seconds: around the aim of 15 ms, then up to where someone must look.
const BUCKETS: [f64; 15] =
    [0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The instruments. Clones share them.
#[derive(Clone)]
pub struct Metrics(Arc<Instruments>);

struct Instruments {
    sent: Counter<u64>,
    refused: Counter<u64>,
    quarantines: Counter<u64>,
    outages: Counter<u64>,
    dealt: Counter<u64>,
    commit_to_broker: Histogram<f64>,
    handler_duration: Histogram<f64>,
    gauges: Gauges,
}

impl Metrics {
    /// Makes the instruments. Once per meter: a second set would report the same gauges beside the first.
    pub fn new(meter: &Meter) -> Self {
        let counter =
            |name: &'static str, what: &'static str| meter.u64_counter(name).with_description(what).build();
        let seconds = |name: &'static str, what: &'static str| {
            let histogram = meter.f64_histogram(name).with_description(what).with_unit("s");
            histogram.with_boundaries(BUCKETS.to_vec()).build()
        };
        Self(Arc::new(Instruments {
            sent: counter("outbox.sent", "Events whose delivery the broker reported, repeats included."),
            refused: counter("outbox.refused", "Times the broker refused a record, or its topic."),
            quarantines: counter("outbox.quarantines", "Events given up after too many refusals."),
            outages: counter("outbox.outages", "Times the relay found its broker down."),
            dealt: counter("outbox.dealt", "Records an inbox has dealt with, by verdict."),
            commit_to_broker: seconds(
                "outbox.commit_to_broker",
                "From an event's publishing (database's clock) to the report of its delivery (relay's clock).",
            ),
            handler_duration: seconds(
                "outbox.handler.duration",
                "One run of a handler, over one event or a batch, its SQL included.",
            ),
            gauges: Gauges::new(meter),
        }))
    }

    /// Counts nothing. The default of relays and inboxes.
    pub fn noop() -> Self {
        Self::new(&NoopMeterProvider::new().meter("outbox"))
    }

    /// The broker reported the delivery of one event.
    pub fn sent(&self, topic: &str) {
        self.0.sent.add(1, &[in_topic(topic)]);
    }

    /// The broker refused one record; it will be tried again.
    pub fn refused(&self, topic: &str) {
        self.0.refused.add(1, &[in_topic(topic)]);
    }

    /// An event was refused too often and is given up until someone looks.
    pub fn quarantined(&self, topic: &str) {
        self.0.quarantines.add(1, &[in_topic(topic)]);
    }

    /// The relay found its broker down.
    pub fn outage(&self) {
        self.0.outages.add(1, &[]);
    }

    /// How long an event took from its publishing to the report of its delivery.
    pub fn commit_to_broker(&self, topic: &str, took: Duration) {
        self.0.commit_to_broker.record(took.as_secs_f64(), &[in_topic(topic)]);
    }

    /// An inbox has dealt with one record for one handler. `verdict` is a word of the code, such as `applied`.
    pub fn dealt(&self, handler: &str, verdict: &'static str) {
        self.0.dealt.add(1, &[of_handler(handler), KeyValue::new("verdict", verdict)]);
    }

    /// One run of a handler, whatever its verdict.
    pub fn handled(&self, handler: &str, took: Duration) {
        self.0.handler_duration.record(took.as_secs_f64(), &[of_handler(handler)]);
    }

    fn begin(&self) {
        self.0.gauges.begin();
    }

    fn observed(&self, observed: Observed) {
        self.0.gauges.show(observed);
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

fn in_topic(topic: &str) -> KeyValue {
    KeyValue::new("topic", topic.to_owned())
}

fn of_handler(handler: &str) -> KeyValue {
    KeyValue::new("handler", handler.to_owned())
}
