//! Looks for what is wrong, or about to be, and says what to do about it.
//!
//! ```no_run
//! # async fn run(operator: sqlx::PgPool) -> Result<(), outbox::Error> {
//! use outbox::doctor;
//! for finding in doctor::examine(&operator, &doctor::Bounds::default()).await? {
//!     println!("{finding}");
//! }
//! # Ok(()) }
//! ```
//! Each check is a function of its own, for a readiness probe that wants only some. All of them only read, each in
//! statements bounded by [`Bounds::check_timeout`].

mod delivery;
mod inbox;
mod schema;
mod server;
#[cfg(feature = "kafka")]
mod topics;

use std::{fmt, future::Future, time::Duration};

use sqlx::PgPool;

#[cfg(feature = "kafka")]
pub use self::topics::topics;
pub use self::{
    delivery::{delivery, partitions, relays},
    inbox::{handlers, held_back},
    schema::{module, relay, schema},
    server::{clock, horizon, settings, vacuum},
};
use crate::Error;

/// Something that is wrong, or about to be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The check's name, that of its function.
    pub check: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What was seen, with its numbers.
    pub what: String,
    /// What to do.
    pub remedy: &'static str,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing; nothing need be done now.
    Notice,
    /// It gets worse if nobody looks.
    Warning,
    /// Events are not written, not sent, or not safe.
    Critical,
}

/// When a check speaks up, each with its default.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// A statement of a check may take this long (10 s).
    pub check_timeout: Duration,
    /// Days of log partitions that must be ahead (3); relays make 14.
    pub partitions_ahead: i64,
    /// Days that a partition of the log may be old (14); retention leaves 7.
    pub partitions_kept: i64,
    /// Age of the oldest event that is not delivered (1 min).
    pub undelivered_age: Duration,
    /// Within this time a delivered event should have been dealt with by each handler (5 min).
    pub progress_age: Duration,
    /// An event that waits this long for an earlier one of its key has a gap before it (5 min).
    pub gap_age: Duration,
    /// Age of a transaction, which holds back vacuum and late rows (10 min).
    pub transaction_age: Duration,
    /// Dead rows in the queue (1,000,000).
    pub dead_rows: i64,
    /// Difference between this machine's clock and the database's (1 s).
    pub clock_skew: Duration,
    /// Days that a topic must keep its records (7, as long as the log).
    pub topic_days: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            check_timeout: Duration::from_secs(10),
            partitions_ahead: 3,
            partitions_kept: 14,
            undelivered_age: Duration::from_secs(60),
            progress_age: Duration::from_secs(300),
            gap_age: Duration::from_secs(300),
            transaction_age: Duration::from_secs(600),
            dead_rows: 1_000_000,
            clock_skew: Duration::from_secs(1),
            topic_days: 7,
        }
    }
}

/// Runs all checks of the database, the worst finding first; empty when all is well. The pool's role needs
/// [`crate::grant_operator`]. [`module`], [`relay`] and `topics` are not part of it: they ask with other rights or of another
/// system.
///
/// # Errors
/// [`Error::Database`], also for a statement that took longer than its bound; [`Error::Denied`].
pub async fn examine(pool: &PgPool, bounds: &Bounds) -> Result<Vec<Finding>, Error> {
    let mut found = schema(pool, bounds).await?;
    if found.iter().any(|finding| finding.severity == Severity::Critical) {
        // The others would ask for tables that are not there.
        return Ok(found);
    }
    found.extend(settings(pool, bounds).await?);
    found.extend(partitions(pool, bounds).await?);
    found.extend(delivery(pool, bounds).await?);
    found.extend(relays(pool, bounds).await?);
    found.extend(held_back(pool, bounds).await?);
    found.extend(handlers(pool, bounds).await?);
    found.extend(horizon(pool, bounds).await?);
    found.extend(vacuum(pool, bounds).await?);
    found.extend(clock(pool, bounds).await?);
    found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    Ok(found)
}

impl Finding {
    fn new(check: &'static str, severity: Severity, what: impl Into<String>, remedy: &'static str) -> Self {
        Self { check, severity, what: what.into(), remedy }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { check, severity, what, remedy } = self;
        let severity = match severity {
            Severity::Notice => "notice",
            Severity::Warning => "warning",
            Severity::Critical => "CRITICAL",
        };
        write!(f, "{severity} {check}: {what}; {remedy}")
    }
}

/// Asks within the bound.
async fn ask<T>(bounds: &Bounds, asking: impl Future<Output = sqlx::Result<T>>) -> Result<T, Error> {
    match tokio::time::timeout(bounds.check_timeout, asking).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Error::Database(sqlx::Error::PoolTimedOut)),
    }
}

/// `1 day`, `1,234 s`: what a reader of a finding needs.
fn seconds(seconds: f64) -> String {
    match seconds {
        s if s >= 172_800.0 => format!("{:.0} days", s / 86_400.0),
        s if s >= 7_200.0 => format!("{:.0} h", s / 3_600.0),
        s if s >= 120.0 => format!("{:.0} min", s / 60.0),
        s => format!("{s:.0} s"),
    }
}
