//! Readiness: named checks, each with a bound, and the report of those that fail.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use serde::Serialize;

/// How long one check may take before it counts as failed.
pub const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

type Answer = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;
type Ask = Arc<dyn Fn() -> Answer + Send + Sync>;

/// The checks of a process. Clones share them. Without a check a process is ready.
#[derive(Clone, Default)]
pub struct Readiness {
    checks: Arc<Mutex<Vec<Check>>>,
}

/// What the checks said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// `ready` or `not ready`.
    pub status: &'static str,
    /// The checks that failed, in the order of their registration.
    pub failed: Vec<Failed>,
}

/// One failed check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failed {
    /// The check's name.
    pub check: &'static str,
    /// Why it failed, for an operator.
    pub reason: String,
}

#[derive(Clone)]
struct Check {
    name: &'static str,
    timeout: Duration,
    ask: Ask,
}

impl Readiness {
    /// No checks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a check with [`CHECK_TIMEOUT`]. Its error is the reason an operator reads.
    pub fn check<F, A>(&self, name: &'static str, ask: F)
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.check_within(CHECK_TIMEOUT, name, ask);
    }

    /// Adds a check with a bound of its own.
    pub fn check_within<F, A>(&self, timeout: Duration, name: &'static str, ask: F)
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = Result<(), String>> + Send + 'static,
    {
        let check = Check { name, timeout, ask: Arc::new(move || Box::pin(ask())) };
        self.checks.lock().unwrap_or_else(PoisonError::into_inner).push(check);
    }

    /// Asks all checks at once.
    pub async fn report(&self) -> Report {
        let checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let failed: Vec<Failed> =
            join_all(checks.iter().map(Check::run)).await.into_iter().flatten().collect();
        Report { status: if failed.is_empty() { "ready" } else { "not ready" }, failed }
    }
}

impl Report {
    /// Whether no check failed.
    pub fn is_ready(&self) -> bool {
        self.failed.is_empty()
    }
}

impl Check {
    async fn run(&self) -> Option<Failed> {
        let reason = match tokio::time::timeout(self.timeout, (self.ask)()).await {
            Ok(Ok(())) => return None,
            Ok(Err(reason)) => reason,
            Err(_) => format!("no answer within {} ms", self.timeout.as_millis()),
        };
        Some(Failed { check: self.name, reason })
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_list().entries(checks.iter().map(|check| check.name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn failed_and_hanging_checks_are_named_with_their_reason() {
        let readiness = Readiness::new();
        assert!(readiness.report().await.is_ready());
        readiness.check("fine", || async { Ok(()) });
        readiness.check("database", || async { Err("no migrations of ours".to_owned()) });
        readiness.check_within(Duration::from_millis(10), "kafka", std::future::pending);
        let report = serde_json::to_string(&readiness.report().await).unwrap();
        assert_eq!(
            report,
            r#"{"status":"not ready","failed":[{"check":"database","reason":"no migrations of ours"},{"check":"kafka","reason":"no answer within 10 ms"}]}"#
        );
    }
}
