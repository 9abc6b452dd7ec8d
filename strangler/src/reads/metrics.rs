//! What reads count for whoever watches, as OpenTelemetry instruments. Labels are the crate's words; never a key or a tenant.

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Meter, MeterProvider as _, NoopMeterProvider};

use super::{Class, Fallback};

/// The instruments. Clones share them.
#[derive(Clone)]
pub struct ReadMetrics {
    compared: Counter<u64>,
    fallbacks: Counter<u64>,
}

impl ReadMetrics {
    /// Makes the instruments.
    pub fn new(meter: &Meter) -> Self {
        let metrics = Self {
            compared: meter
                .u64_counter("strangler.read.comparisons")
                .with_description("Reads that were compared with the target's answer, by what came of it.")
                .build(),
            fallbacks: meter
                .u64_counter("strangler.read.fallbacks")
                .with_description("Reads of the cohort that the source answered, by why the target did not.")
                .build(),
        };
        // Shown from the beginning: an alert sees the first one.
        for class in Class::ALL {
            metrics.compared.add(0, &[KeyValue::new("class", class.name())]);
        }
        for reason in Fallback::ALL {
            metrics.fallbacks.add(0, &[KeyValue::new("reason", reason.name())]);
        }
        metrics
    }

    /// Counts nothing.
    pub fn noop() -> Self {
        Self::new(&NoopMeterProvider::new().meter("strangler"))
    }

    pub(super) fn compared(&self, class: Class) {
        self.compared.add(1, &[KeyValue::new("class", class.name())]);
    }

    pub(super) fn fallback(&self, reason: Fallback) {
        self.fallbacks.add(1, &[KeyValue::new("reason", reason.name())]);
    }
}

impl Default for ReadMetrics {
    fn default() -> Self {
        Self::noop()
    }
}

impl std::fmt::Debug for ReadMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReadMetrics")
    }
}
