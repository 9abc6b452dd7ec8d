//! What is read from the database: how much waits, and since when.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use opentelemetry::{
    KeyValue,
    metrics::{Meter, ObservableGauge},
};
use sqlx::PgPool;
use tokio::time::{MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;

use super::Metrics;
use crate::{
    Error,
    database::READ_BOUNDED,
    store::{self, InFront, Waiting},
};

/// How long a reading may take in all, a connection that does not answer included.
const READING_MAX: Duration = Duration::from_secs(30);

/// Reads the gauges every `every` (10 s is plenty) until `shutdown`. One observer per database is enough, and per
/// [`Metrics`] only one makes sense. The pool's role needs [`crate::grant_relay`].
///
/// A reading may take 30 s in all, and 10 s per question. A database that can't be asked is no error: the age of the oldest event goes on growing by itself, and so does
/// `outbox_observation_age_seconds`, which is the one to alarm on.
pub async fn observe(pool: PgPool, metrics: Metrics, every: Duration, shutdown: CancellationToken) {
    let mut tick = tokio::time::interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    metrics.begin();
    let mut failing = false;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        let read = tokio::select! {
            () = shutdown.cancelled() => return,
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
                tracing::warn!(error, "the outbox's gauges can't be read; trying again");
            }
            Err(_) => {}
        }
    }
}

/// One reading.
pub(super) struct Observed {
    read_at: Instant,
    waiting: Waiting,
    handlers: Vec<InFront>,
}

impl Observed {
    async fn read(pool: &PgPool) -> Result<Self, Error> {
        let ask = async {
            let mut tx = pool.begin_with(READ_BOUNDED).await?;
            let waiting = store::waiting(&mut *tx).await?;
            let handlers = store::held_back(&mut *tx).await?;
            tx.commit().await?;
            Ok::<_, sqlx::Error>((waiting, handlers))
        };
        let late = || sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
        let (waiting, handlers) = timeout(READING_MAX, ask).await.map_err(|_| late())??;
        Ok(Self { read_at: Instant::now(), waiting, handlers })
    }

    /// One number of each handler.
    fn each(&self, number: fn(&InFront) -> i64) -> Series {
        self.handlers.iter().map(|of| (number(of), vec![super::of_handler(&of.handler)])).collect()
    }

    /// Nothing has told us that the oldest event is gone, so its age grows from reading to reading.
    fn oldest_age_s(&self) -> f64 {
        self.waiting.oldest_age_s.map_or(0.0, |age| age.max(0.0) + self.read_at.elapsed().as_secs_f64())
    }
}

/// What the gauges show.
#[derive(Default)]
struct Shown {
    /// When the observer began; without one there is nothing to show.
    begun: Option<Instant>,
    last: Option<Observed>,
}

impl Shown {
    /// Since the last reading, or since it was due.
    fn unread_s(&self) -> Option<f64> {
        let since = self.last.as_ref().map(|last| last.read_at).or(self.begun)?;
        Some(since.elapsed().as_secs_f64())
    }
}

/// The gauges, which report the last reading when they are asked, and nothing before the first.
pub(super) struct Gauges {
    shown: Arc<Mutex<Shown>>,
    _instruments: (Vec<ObservableGauge<f64>>, Vec<ObservableGauge<i64>>),
}

impl Gauges {
    pub(super) fn new(meter: &Meter) -> Self {
        let shown = Arc::default();
        let oldest = "Age of the oldest event that is not delivered; 0 when there is none. Quarantined ones are left out.";
        let seconds = vec![
            gauge_s(meter, &shown, "outbox.oldest_undelivered_age", oldest, |shown| {
                shown.last.as_ref().map(Observed::oldest_age_s)
            }),
            gauge_s(
                meter,
                &shown,
                "outbox.observation_age",
                "Since the gauges were last read.",
                Shown::unread_s,
            ),
        ];
        let mut counts = vec![
            gauge(meter, &shown, "outbox.pending", "Events not delivered, at most 1,000,000.", |o| {
                vec![(o.waiting.pending, Vec::new())]
            }),
            gauge(meter, &shown, "outbox.quarantined", "Events given up, to be resent or skipped.", |o| {
                vec![(o.waiting.quarantined, Vec::new())]
            }),
            gauge(
                meter,
                &shown,
                "outbox.unreadable",
                "Records without a usable key, version or id that nobody has discarded.",
                |o| vec![(o.waiting.unreadable, Vec::new())],
            ),
            gauge(
                meter,
                &shown,
                "outbox.days_ahead",
                "Days after today that the log has, at most 30.",
                |o| vec![(o.waiting.days_ahead, Vec::new())],
            ),
        ];
        counts.extend(of_handlers(meter, &shown));
        Self { shown, _instruments: (seconds, counts) }
    }

    pub(super) fn begin(&self) {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).begun.get_or_insert_with(Instant::now);
    }

    pub(super) fn show(&self, observed: Observed) {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).last = Some(observed);
    }
}

/// Values with their labels.
type Series = Vec<(i64, Vec<KeyValue>)>;

fn of_handlers(meter: &Meter, shown: &Arc<Mutex<Shown>>) -> [ObservableGauge<i64>; 4] {
    let incomplete = "Keys of a handler that miss events which only a log can give.";
    let awaiting = "Keys of a replica that wait for a snapshot, at most 1,000,000.";
    [
        gauge(meter, shown, "outbox.parked", "Events that wait in front of a handler.", |o| {
            o.each(|handler| handler.parked)
        }),
        gauge(meter, shown, "outbox.dead", "Dead letters of a handler.", |o| o.each(|handler| handler.dead)),
        gauge(meter, shown, "outbox.incomplete", incomplete, |o| o.each(|handler| handler.incomplete)),
        gauge(meter, shown, "outbox.awaiting", awaiting, |o| o.each(|handler| handler.awaiting)),
    ]
}

fn gauge_s(
    meter: &Meter,
    shown: &Arc<Mutex<Shown>>,
    name: &'static str,
    what: &'static str,
    value: fn(&Shown) -> Option<f64>,
) -> ObservableGauge<f64> {
    let shown = shown.clone();
    let gauge = meter.f64_observable_gauge(name).with_description(what).with_unit("s");
    let gauge = gauge.with_callback(move |to| {
        if let Some(value) = value(&shown.lock().unwrap_or_else(PoisonError::into_inner)) {
            to.observe(value, &[]);
        }
    });
    gauge.build()
}

fn gauge(
    meter: &Meter,
    shown: &Arc<Mutex<Shown>>,
    name: &'static str,
    what: &'static str,
    values: fn(&Observed) -> Series,
) -> ObservableGauge<i64> {
    let shown = shown.clone();
    let gauge = meter.i64_observable_gauge(name).with_description(what);
    let gauge = gauge.with_callback(move |to| {
        if let Some(observed) = &shown.lock().unwrap_or_else(PoisonError::into_inner).last {
            for (value, labels) in values(observed) {
                to.observe(value, &labels);
            }
        }
    });
    gauge.build()
}
