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

/// The instruments. They report the last reading while a [`super::Reconciler`] runs, and nothing without one: an age that nobody can
/// end would be an alarm for ever. Clones share them. `docs/telemetry.md` has the names as exposed.
#[derive(Clone)]
pub struct ReconcileMetrics {
    shown: Arc<Mutex<Option<Shown>>>,
    _instruments: Arc<(ObservableGauge<i64>, ObservableGauge<f64>, ObservableGauge<i64>)>,
}

/// While it lives, something is shown.
pub(super) struct Showing(Arc<Mutex<Option<Shown>>>);

/// What is shown.
struct Shown {
    /// Without a whole run there is an age all the same: since the reconciler began.
    begun: Instant,
    open: Option<Vec<(DifferenceKind, i64)>>,
    last: Option<(LastRun, Instant)>,
}

impl ReconcileMetrics {
    /// Makes the instruments. Once per meter.
    pub fn new(meter: &Meter) -> Self {
        let shown: Arc<Mutex<Option<Shown>>> = Arc::default();
        let (of, since, lines) = (shown.clone(), shown.clone(), shown.clone());
        let open = meter
            .i64_observable_gauge("payments.open_differences")
            .with_description("Differences between the books and the provider's list that nobody has closed.")
            .with_callback(move |observer| {
                for (kind, count) in lock(&of).iter().flat_map(Shown::each_open) {
                    observer.observe(count, &[KeyValue::new("kind", kind.word())]);
                }
            })
            .build();
        let age = meter
            .f64_observable_gauge("payments.reconciliation_age")
            .with_unit("s")
            .with_description(
                "Since the last whole comparison ended; without one, since the reconciler began.",
            )
            .with_callback(move |observer| {
                if let Some(shown) = &*lock(&since) {
                    observer.observe(shown.age_s(), &[]);
                }
            })
            .build();
        let lines = meter
            .i64_observable_gauge("payments.reconciled_lines")
            .with_description("Lines of the provider's list that the last whole comparison read.")
            .with_callback(move |observer| {
                if let Some((last, _)) = lock(&lines).as_ref().and_then(|shown| shown.last.as_ref()) {
                    observer.observe(last.lines, &[]);
                }
            })
            .build();
        Self { shown, _instruments: Arc::new((open, age, lines)) }
    }

    /// Shows something from now on, until the guard is dropped.
    pub(super) fn begin(&self) -> Showing {
        *lock(&self.shown) = Some(Shown { begun: Instant::now(), open: None, last: None });
        Showing(self.shown.clone())
    }

    /// Reads what is shown from now on.
    pub(super) async fn read(&self, pool: &PgPool) -> Result<(), Error> {
        let open = store::count_open(pool).await?;
        let last = store::last_run(pool).await?;
        if let Some(shown) = &mut *lock(&self.shown) {
            shown.open = Some(open);
            shown.last = last.map(|last| (last, Instant::now()));
        }
        Ok(())
    }
}

impl Drop for Showing {
    fn drop(&mut self) {
        *lock(&self.0) = None;
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

fn lock(shown: &Mutex<Option<Shown>>) -> MutexGuard<'_, Option<Shown>> {
    shown.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for ReconcileMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReconcileMetrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
impl ReconcileMetrics {
    /// Since when there is an age; `None`: nothing is shown.
    pub(crate) fn age_s(&self) -> Option<f64> {
        lock(&self.shown).as_ref().map(Shown::age_s)
    }
}
