//! What is read from the database: how much is open, and since when.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, ObservableGauge};
use sqlx::PgPool;
use tokio::time::{MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;

use super::Metrics;
use crate::store::{self, OpenWork};
use crate::{Error, Heartbeat};

/// How long a reading may take, a connection that does not answer included.
const READING_MAX: Duration = Duration::from_secs(30);

/// Reads the gauges every `every` until `shutdown`. One observer per home is enough; the pool is the module's own. A database
/// that can't be asked is no error: the ages go on growing, and so does `payments_observation_age_seconds`. Once it has ended nothing
/// is shown: ages that nobody can end would be an alarm for ever.
pub async fn observe(pool: PgPool, metrics: Metrics, every: Duration, shutdown: CancellationToken) {
    let mut tick = tokio::time::interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            _ = tick.tick() => {}
        }
        let read = tokio::select! {
            () = shutdown.cancelled() => break,
            read = Observed::read(&pool) => read,
        };
        match read {
            Ok(observed) => {
                failing = false;
                metrics.observed(observed);
            }
            // Said once, not at every turn.
            Err(error) if !failing => {
                failing = true;
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "the gauges of payments can't be read; trying again");
            }
            Err(_) => {}
        }
    }
    metrics.unobserved();
}

/// One reading.
pub(super) struct Observed {
    read_at: Instant,
    work: OpenWork,
    heartbeat: Option<Heartbeat>,
}

impl Observed {
    async fn read(pool: &PgPool) -> Result<Self, Error> {
        let late = || Error::Database(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()));
        let read = async { Ok::<_, Error>((store::open_work(pool).await?, store::heartbeat(pool).await?)) };
        let (work, heartbeat) = timeout(READING_MAX, read).await.map_err(|_| late())??;
        Ok(Self { read_at: Instant::now(), work, heartbeat })
    }

    /// Nothing has told us that the oldest is done, so its age grows from reading to reading.
    fn age_s(&self, read: Option<f64>) -> f64 {
        read.map_or(0.0, |age| age.max(0.0) + self.read_at.elapsed().as_secs_f64())
    }
}

type Shown = Arc<Mutex<Option<Observed>>>;

/// The gauges, which report the last reading when they are asked, and nothing before the first.
pub(super) struct Gauges {
    shown: Shown,
    _instruments: (Vec<ObservableGauge<f64>>, ObservableGauge<i64>),
}

impl Gauges {
    pub(super) fn new(meter: &Meter) -> Self {
        let shown = Shown::default();
        let seconds = vec![
            gauge_s(
                meter,
                &shown,
                "payments.oldest_open_age",
                "Age of the oldest command without an outcome.",
                |it| it.age_s(it.work.oldest_open_s),
            ),
            gauge_s(
                meter,
                &shown,
                "payments.oldest_unknown_age",
                "Age of the oldest command that was asked and not answered.",
                |it| it.age_s(it.work.oldest_unknown_s),
            ),
            gauge_s(
                meter,
                &shown,
                "payments.oldest_requested_age",
                "Age of the oldest requested payment that is not known to be the other home's.",
                |it| it.age_s(it.work.oldest_requested_s),
            ),
            gauge_s(
                meter,
                &shown,
                "payments.feed.heartbeat_age",
                "Since the last heartbeat of the other home was applied here; 0 before the first.",
                |it| it.age_s(it.heartbeat.as_ref().map(|last| last.age.as_secs_f64())),
            ),
            gauge_s(meter, &shown, "payments.observation_age", "Since the gauges were last read.", |it| {
                it.read_at.elapsed().as_secs_f64()
            }),
        ];
        let open = open(meter, &shown);
        Self { shown, _instruments: (seconds, open) }
    }

    /// `None`: nothing, as before the first reading.
    pub(super) fn show(&self, observed: Option<Observed>) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = observed;
    }
}

fn open(meter: &Meter, shown: &Shown) -> ObservableGauge<i64> {
    let shown = shown.clone();
    let gauge = meter
        .i64_observable_gauge("payments.open_intents")
        .with_description("Commands without an outcome, by operation and state; expired: a person decides.");
    let gauge = gauge.with_callback(move |to| {
        if let Some(observed) = &*shown.lock().unwrap_or_else(PoisonError::into_inner) {
            for open in &observed.work.open {
                let labels = [
                    KeyValue::new("operation", open.operation.clone()),
                    KeyValue::new("state", open.state.clone()),
                ];
                to.observe(open.count, &labels);
            }
        }
    });
    gauge.build()
}

fn gauge_s(
    meter: &Meter,
    shown: &Shown,
    name: &'static str,
    what: &'static str,
    value: fn(&Observed) -> f64,
) -> ObservableGauge<f64> {
    let shown = shown.clone();
    let gauge = meter.f64_observable_gauge(name).with_description(what).with_unit("s");
    let gauge = gauge.with_callback(move |to| {
        if let Some(observed) = &*shown.lock().unwrap_or_else(PoisonError::into_inner) {
            to.observe(value(observed), &[]);
        }
    });
    gauge.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_observer_that_has_ended_shows_nothing() {
        let metrics = Metrics::noop();
        let work = OpenWork {
            open: Vec::new(),
            oldest_open_s: Some(1.0),
            oldest_unknown_s: None,
            oldest_requested_s: None,
        };
        metrics.observed(Observed { read_at: Instant::now(), work, heartbeat: None });
        assert!(metrics.0.gauges.shown.lock().unwrap().is_some());
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        let nowhere = PgPool::connect_lazy("postgres://nobody@127.0.0.1:1/nothing").unwrap();
        observe(nowhere, metrics.clone(), Duration::from_secs(60), shutdown).await;
        assert!(metrics.0.gauges.shown.lock().unwrap().is_none(), "its age would be an alarm for ever");
    }
}
