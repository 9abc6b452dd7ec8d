//! Reconciliation: the provider's settlement list, the ledger and the payments' states, compared; `docs/reconciliation.md`.
//!
//! What one look finds is decided by pure functions (`place`, `absent`, `state`). A difference is kept until a later look sees
//! that it is gone, until it is explained by the provider's own object and booked, or until a person accepts it. Absence decides
//! nothing: nothing is ever closed because something was not seen.

mod absent;
mod accept;
mod books;
mod config;
mod entries;
mod explain;
mod found;
mod lines;
mod metrics;
mod operate;
mod place;
mod report;
mod state;
mod states;

use std::time::Duration;

use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{Error, Home, store};

pub(crate) use absent::Unseen;
pub(crate) use books::{Books, Entry};
pub(crate) use found::{Accepted, Found};
pub(crate) use metrics::LastRun;
#[cfg(test)]
pub(crate) use report::OPEN_MAX;

pub use accept::accept;
pub use config::ReconcileConfig;
pub use found::DifferenceKind;
pub use metrics::ReconcileMetrics;
pub use operate::{Order, Told, operate};
pub use report::{Difference, differences, open_differences, table};

/// Who closes what is gone or explained.
pub(crate) const BY: &str = "reconciliation";
/// Why what is the other home's to tell is closed here.
const FOREIGN: &str = "its payment is the other home's now";
/// The longest pause after a run that failed.
const FAILED_PAUSE: Duration = Duration::from_secs(60);
/// How often it is looked whether a run is due, and the gauges are read.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// Compares this home's books with the provider's list, by itself or once. Several of a home take turns.
#[derive(Debug, Clone)]
pub struct Reconciler {
    home: Home,
    config: ReconcileConfig,
    metrics: Option<ReconcileMetrics>,
}

/// How a look ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reconciled {
    /// Everything was compared.
    Whole {
        /// Lines of the list that were read.
        lines: i64,
    },
    /// Someone else is at it.
    Busy,
}

/// One run: what it knows of time, and how far it came.
struct Run<'a> {
    home: &'a Home,
    config: &'a ReconcileConfig,
    shutdown: &'a CancellationToken,
    now: OffsetDateTime,
    /// What is younger is read in whole.
    start: OffsetDateTime,
    lines: i64,
}

impl Reconciler {
    /// A reconciler of a home.
    pub fn new(home: Home, config: ReconcileConfig) -> Self {
        Self { home, config, metrics: None }
    }

    /// Shows its numbers.
    #[must_use]
    pub fn metrics(self, metrics: ReconcileMetrics) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    /// Runs every [`ReconcileConfig::every`] after the last whole run, whoever did that, until the shutdown. A provider or a
    /// database that is away is tried again. Its numbers are shown as long as it runs.
    pub async fn run(self, shutdown: CancellationToken) {
        let _shown = self.metrics.as_ref().map(ReconcileMetrics::begin);
        let mut pause = Duration::ZERO;
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = match self.look(&shutdown).await {
                Ok(due) => due.min(LOOK_EVERY),
                Err(_) if shutdown.is_cancelled() => return,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "the books could not be reconciled; trying again");
                    FAILED_PAUSE.min(self.config.every)
                }
            };
        }
    }

    /// Runs if it is time, and returns when the next run is due.
    async fn look(&self, shutdown: &CancellationToken) -> Result<Duration, Error> {
        self.show().await?;
        let last = store::last_run(&self.home.pool).await?;
        let since = last.map_or(Duration::MAX, |last| Duration::from_secs_f64(last.age_s.max(0.0)));
        let due = self.config.every.saturating_sub(since);
        if !due.is_zero() {
            return Ok(due);
        }
        self.once_unless(shutdown).await?;
        self.show().await?;
        Ok(self.config.every)
    }

    async fn show(&self) -> Result<(), Error> {
        match &self.metrics {
            Some(metrics) => metrics.read(&self.home.pool).await,
            None => Ok(()),
        }
    }

    /// Compares everything, once, now.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the provider's list can't be read, [`Error::Database`]. What was found until then is kept.
    pub async fn once(&self) -> Result<Reconciled, Error> {
        self.once_unless(&CancellationToken::new()).await
    }

    async fn once_unless(&self, shutdown: &CancellationToken) -> Result<Reconciled, Error> {
        let Some(mut turn) = store::Turn::take(&self.home.pool).await? else { return Ok(Reconciled::Busy) };
        let now = turn.now().await?;
        let last = store::last_run(&self.home.pool).await?;
        // Behind an outage there may be more to read than a window.
        let start = last.map_or(now, |last| last.began_at.min(now)) - self.config.window;
        let mut run = Run { home: &self.home, config: &self.config, shutdown, now, start, lines: 0 };
        let done = run.whole().await;
        turn.end().await?;
        done?;
        Ok(Reconciled::Whole { lines: run.lines })
    }
}

impl Run<'_> {
    async fn whole(&mut self) -> Result<(), Error> {
        let mut states_after: Option<Uuid> = None;
        if self.list().await? {
            self.entries().await?;
            states_after = self.states().await?;
            tracing::info!(lines = self.lines, "the books were compared with the provider's list");
        } else {
            // The copies here may be many, and none of them is this home's to compare.
            store::close_foreign(&self.home.pool, BY, FOREIGN, self.findable_since()).await?;
            tracing::info!("no payment is this home's, so nothing was compared with the provider's list");
        }
        store::keep_run(&self.home.pool, self.now, self.lines, states_after).await
    }

    /// Reads and places the list. False when there is none for this home: it owns no payment.
    async fn list(&mut self) -> Result<bool, Error> {
        for within in lines::ranges(self).await? {
            if !self.lines(within).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What is younger, a payment's new owner finds: it reads a window, at a time of its own. What is older nobody else may find.
    fn findable_since(&self) -> OffsetDateTime {
        self.now - self.config.window / 2
    }

    /// An error once the process ends.
    fn going(&self) -> Result<(), Error> {
        if self.shutdown.is_cancelled() { Err(ending()) } else { Ok(()) }
    }

    /// Whether this home owns a payment. `None`: it is changing its owner.
    async fn owns(&self, payment: proto::PaymentId) -> Result<Option<bool>, Error> {
        let mut tx = self.home.pool.begin().await?;
        let owns = match self.home.authority.owns(&mut tx, payment).await {
            Ok(owns) => Some(owns),
            Err(Error::Busy(_)) => None,
            Err(error) => return Err(error),
        };
        tx.rollback().await?;
        Ok(owns)
    }

    /// Opens a difference of a payment that this home owns. False when it is not to be looked at further.
    async fn open(&self, found: &Found) -> Result<bool, Error> {
        if let Some((payment, _)) = &found.payment {
            match self.owns(*payment).await? {
                Some(true) => {}
                Some(false) if found.at < self.findable_since() => return Ok(false),
                Some(false) => {
                    self.close(&[(found.subject.clone(), FOREIGN.to_owned())]).await?;
                    return Ok(false);
                }
                None => return Ok(false),
            }
        }
        if store::open(&self.home.pool, found).await? > 0 {
            let Found { subject, kind, object, here_minor, there_minor, .. } = found;
            let payment = found.payment.as_ref().map(|(payment, _)| payment.to_string());
            tracing::warn!(
                subject,
                kind = kind.word(),
                object,
                here_minor,
                there_minor,
                payment,
                "the books and the provider differ"
            );
        }
        store::is_open(&self.home.pool, &found.subject).await
    }

    async fn close(&self, closing: &[(String, String)]) -> Result<(), Error> {
        if !closing.is_empty() {
            store::close(&self.home.pool, BY, closing).await?;
        }
        Ok(())
    }
}

/// Why a run that was told to end has not compared everything.
fn ending() -> Error {
    Error::Unavailable("the process ends".to_owned())
}
