//! The numbers of reconciliation: how many differences are open, and how long ago everything was compared.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, ObservableGauge};
use sqlx::PgPool;

use super::DifferenceKind;
use crate::{Error, store};

/// The last whole run, as a reader of the table finds it.
#[derive(Debug, Clone)]
pub(crate) struct LastRun {
    /// By the database's clock.
    pub(crate) began_at: time::OffsetDateTime,
    /// Since it ended.
    pub(crate) age_s: f64,
    pub(crate) lines: i64,
    /// The last authorized payment that it looked at.
    pub(crate) states_after: Option<uuid::Uuid>,
}

/// The instruments. They report the last reading; clones share them. `docs/telemetry.md` has the names as exposed.
#[derive(Clone)]
pub struct ReconcileMetrics {
    shown: Arc<Mutex<Shown>>,
    _instruments: Arc<(ObservableGauge<i64>, ObservableGauge<f64>, ObservableGauge<i64>)>,
}

/// What is shown.
struct Shown {
    /// Without a whole run there is an age all the same: since this process began to look.
    begun: Instant,
    open: Option<Vec<(DifferenceKind, i64)>>,
    last: Option<(LastRun, Instant)>,
}

impl ReconcileMetrics {
    /// Makes the instruments. Once per meter.
    pub fn new(meter: &Meter) -> Self {
        let shown = Arc::new(Mutex::new(Shown { begun: Instant::now(), open: None, last: None }));
        let (of, since, lines) = (shown.clone(), shown.clone(), shown.clone());
        let open = meter
            .i64_observable_gauge("payments.open_differences")
            .with_description("Differences between the books and the provider's list that nobody has closed.")
            .with_callback(move |observer| {
                for (kind, count) in lock(&of).each_open() {
                    observer.observe(count, &[KeyValue::new("kind", kind.word())]);
                }
            })
            .build();
        let age = meter
            .f64_observable_gauge("payments.reconciliation_age")
            .with_unit("s")
            .with_description("Since the last whole comparison ended; without one, since this process began.")
            .with_callback(move |observer| observer.observe(lock(&since).age_s(), &[]))
            .build();
        let lines = meter
            .i64_observable_gauge("payments.reconciled_lines")
            .with_description("Lines of the provider's list that the last whole comparison read.")
            .with_callback(move |observer| {
                if let Some((last, _)) = &lock(&lines).last {
                    observer.observe(last.lines, &[]);
                }
            })
            .build();
        Self { shown, _instruments: Arc::new((open, age, lines)) }
    }

    /// Reads what is shown from now on.
    pub(super) async fn read(&self, pool: &PgPool) -> Result<(), Error> {
        let open = store::count_open(pool).await?;
        let last = store::last_run(pool).await?;
        let mut shown = lock(&self.shown);
        shown.open = Some(open);
        shown.last = last.map(|last| (last, Instant::now()));
        Ok(())
    }
}

impl Shown {
    /// Each kind, those without a difference too; nothing before the first reading.
    fn each_open(&self) -> Vec<(DifferenceKind, i64)> {
        let Some(open) = &self.open else { return Vec::new() };
        let count = |kind| open.iter().find(|(of, _)| *of == kind).map_or(0, |(_, count)| *count);
        DifferenceKind::ALL.iter().map(|kind| (*kind, count(*kind))).collect()
    }

    /// Nothing has told us of a later run, so it grows from reading to reading.
    fn age_s(&self) -> f64 {
        match &self.last {
            Some((last, read_at)) => last.age_s.max(0.0) + read_at.elapsed().as_secs_f64(),
            None => self.begun.elapsed().as_secs_f64(),
        }
    }
}

fn lock(shown: &Mutex<Shown>) -> MutexGuard<'_, Shown> {
    shown.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for ReconcileMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReconcileMetrics").finish_non_exhaustive()
    }
}
