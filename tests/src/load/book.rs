//! What the clients saw.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::task::JoinError;

use crate::checker::Accepted;

/// The slowest answer that is told apart from slower ones, in milliseconds.
const LATENCY_MAX_MS: u64 = 60_000;

/// Filled by all clients of a load.
pub struct Book(Mutex<Tally>);

/// What all clients saw in sum.
#[derive(Clone)]
pub struct Tally {
    /// Orders that were acknowledged.
    pub accepted: Vec<Accepted>,
    /// Milliseconds from the first try of an order to its acknowledgement.
    pub latency_ms: Histogram<u64>,
    /// Answers by request and status, `POST /v1/orders 201`; or by what went wrong instead of one.
    pub answers: BTreeMap<String, u64>,
    /// Orders that were not placed because all clients were busy.
    pub held_back: u64,
    /// What a client could not finish, one line each.
    pub failures: Vec<String>,
}

impl Book {
    /// An empty book.
    ///
    /// # Errors
    /// When the histogram refuses its bounds.
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self(Mutex::new(Tally {
            accepted: Vec::new(),
            latency_ms: Histogram::new_with_max(LATENCY_MAX_MS, 3)?,
            answers: BTreeMap::new(),
            held_back: 0,
            failures: Vec::new(),
        })))
    }

    /// How many orders were acknowledged so far.
    pub fn accepted(&self) -> usize {
        self.lock().accepted.len()
    }

    pub(super) fn answer(&self, what: &str) {
        *self.lock().answers.entry(what.to_owned()).or_default() += 1;
    }

    pub(super) fn acknowledged(&self, accepted: Accepted, after: Duration) {
        let mut tally = self.lock();
        tally.accepted.push(accepted);
        let ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        tally.latency_ms.saturating_record(ms);
    }

    pub(super) fn failed(&self, what: String) {
        self.lock().failures.push(what);
    }

    pub(super) fn held_back(&self) {
        self.lock().held_back += 1;
    }

    pub(super) fn ended(&self, ended: Result<(), JoinError>) {
        if let Err(error) = ended {
            self.failed(format!("a client broke down: {error}"));
        }
    }

    pub(super) fn close(&self) -> Tally {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |quantile| self.latency_ms.value_at_quantile(quantile);
        writeln!(
            f,
            "  {} orders acknowledged; p50 {} ms, p99 {} ms, slowest {} ms; {} held back",
            self.accepted.len(),
            at(0.5),
            at(0.99),
            self.latency_ms.max(),
            self.held_back
        )?;
        for (answer, times) in &self.answers {
            writeln!(f, "    {answer:<44} {times:>7}")?;
        }
        for failure in self.failures.iter().take(10) {
            writeln!(f, "    not finished: {failure}")?;
        }
        Ok(())
    }
}
