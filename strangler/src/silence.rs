//! How long the feeds have been silent, as an OpenTelemetry instrument. Without traffic only heartbeats tell.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, MeterProvider as _, NoopMeterProvider, ObservableGauge};

use crate::{Heard, Home};

/// The gauge of the ages of both homes' last heartbeats, which the controller that leads shows while the stage has them. Clones share it.
#[derive(Clone)]
pub struct FeedMetrics {
    ages: Shared,
    _gauge: ObservableGauge<f64>,
}

type Shared = Arc<Mutex<Ages>>;

#[derive(Default)]
struct Ages {
    source: Option<Age>,
    target: Option<Age>,
}

/// An age as it was when it was read; it grows by itself.
#[derive(Clone, Copy)]
struct Age {
    read_at: Instant,
    then: Duration,
}

impl Age {
    fn now(then: Duration) -> Self {
        Self { read_at: Instant::now(), then }
    }

    fn grown(self) -> Duration {
        self.then.saturating_add(self.read_at.elapsed())
    }
}

impl Ages {
    fn of(&mut self, from: Home) -> &mut Option<Age> {
        match from {
            Home::Source => &mut self.source,
            Home::Target => &mut self.target,
        }
    }
}

impl FeedMetrics {
    /// Makes the instrument. Once per meter: a second one would report beside the first.
    pub fn new(meter: &Meter) -> Self {
        let ages = Shared::default();
        let shown = ages.clone();
        let gauge = meter
            .f64_observable_gauge("strangler.feed.heartbeat_age")
            .with_description(
                "Since a home's last heartbeat came to the other one, while the stage has them.",
            )
            .with_unit("s")
            .with_callback(move |to| {
                for from in [Home::Source, Home::Target] {
                    if let Some(age) = *lock(&shown).of(from) {
                        to.observe(age.grown().as_secs_f64(), &[KeyValue::new("from", from.name())]);
                    }
                }
            })
            .build();
        Self { ages, _gauge: gauge }
    }

    /// Shows it to nobody.
    pub fn noop() -> Self {
        Self::new(&NoopMeterProvider::new().meter("strangler"))
    }

    /// How long ago this home's last heartbeat came to the other one, as far as this process knows: before the first, and while the
    /// other one can't be asked, it grows. `None`: the stage has none from it, or another controller leads.
    pub fn heartbeat_age(&self, from: Home) -> Option<Duration> {
        lock(&self.ages).of(from).map(Age::grown)
    }

    /// Takes what the other home has heard of this one; `None`: it could not be asked.
    pub(crate) fn note(&self, from: Home, heard: Option<&Heard>) {
        let mut ages = lock(&self.ages);
        let age = ages.of(from);
        match heard {
            Some(Heard::Last(last)) => *age = Some(Age::now(last.age)),
            Some(Heard::Unsent) => *age = None,
            // A silence that nobody has measured yet begins now.
            Some(Heard::Nothing) | None => *age = age.or_else(|| Some(Age::now(Duration::ZERO))),
        }
    }

    /// Shows nothing of this home any more: an age that nobody can end would be an alarm for ever.
    pub(crate) fn forget(&self, from: Home) {
        *lock(&self.ages).of(from) = None;
    }
}

fn lock(ages: &Shared) -> MutexGuard<'_, Ages> {
    ages.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for FeedMetrics {
    fn default() -> Self {
        Self::noop()
    }
}

impl fmt::Debug for FeedMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FeedMetrics")
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;
    use crate::Heartbeat;

    #[test]
    fn an_age_grows_until_a_heartbeat_comes_and_is_gone_where_none_is_sent() {
        let metrics = FeedMetrics::noop();
        let age = || metrics.heartbeat_age(Home::Source);
        assert_eq!(age(), None);
        metrics.note(Home::Source, Some(&Heard::Nothing));
        let first = age().unwrap();
        metrics.note(Home::Source, None);
        assert!(age().unwrap() >= first, "a home that can't be asked makes it no younger");
        assert_eq!(metrics.heartbeat_age(Home::Target), None);

        let (now, long) = (OffsetDateTime::now_utc(), Duration::from_secs(42));
        let last = Heartbeat { sequence: 7, sent_at: now, received_at: now, age: long };
        metrics.note(Home::Source, Some(&Heard::Last(last)));
        metrics.note(Home::Source, Some(&Heard::Nothing));
        assert!(age().unwrap() >= long);
        metrics.note(Home::Source, Some(&Heard::Unsent));
        assert_eq!(age(), None);
        metrics.note(Home::Source, None);
        metrics.forget(Home::Source);
        assert_eq!(age(), None);
    }
}
