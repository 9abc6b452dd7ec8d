//! The log's days: made ahead, and dropped when they are old and nothing needs them.

use std::time::Duration;

use sqlx::{PgConnection, PgPool};
use time::Date;
use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    store::{self, Day},
};

/// Bounds of [`Housekeeping`], each with its default.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whole days of UTC before today that the log keeps (7). At least 1.
    pub keep_days: u16,
    /// Days made ahead (14): so long publishing goes on when nobody keeps house.
    pub ahead_days: u16,
    /// How often both are looked after (1 h), and the longest that one round may take.
    pub every: Duration,
    /// How soon again after a failure, or when a day could not be dropped yet because somebody was in the way (1 min).
    pub retry: Duration,
    /// The longest wait for a lock (2 s). Nobody waits behind it: a day is detached beside open publishers.
    pub lock_timeout: Duration,
    /// Days dropped in one round (16).
    pub drops_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            keep_days: 7,
            ahead_days: 14,
            every: Duration::from_secs(3600),
            retry: Duration::from_secs(60),
            lock_timeout: Duration::from_secs(2),
            drops_max: 16,
        }
    }
}

/// What one round did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Days made or attached again.
    pub made: i32,
    /// Tables of days that were dropped.
    pub dropped: Vec<String>,
    /// Old days that are kept, and why.
    pub kept: Vec<Kept>,
    /// Why the round ended early; the next goes on from there. Also set when this role may not drop days.
    pub stopped: Option<Stopped>,
}

/// A day that is older than the log keeps, and is still needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its table, such as `event_20260131`.
    pub day: String,
    /// `pending`, `waiting`, `gap` or `replay`; `docs/log.md` says what each means.
    pub because: String,
}

/// Why a round did not get to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// There are old days, and this role does not own the log ([`crate::grant_housekeeper`]).
    NotOwner,
    /// A replay is reading, or somebody else keeps house.
    Busy,
    /// An open transaction was in the way for longer than `lock_timeout`.
    Locked,
    /// `drops_max` days were dropped.
    Enough,
}

/// Keeps the days of `outbox.event` and `outbox.sent`. Any role that was granted a relay makes days ahead; only the owner of the
/// logs drops them ([`crate::grant_housekeeper`]).
#[derive(Debug, Clone)]
pub struct Housekeeping {
    pool: PgPool,
    /// Over which days are made.
    makes: PgPool,
    options: Options,
}

impl Housekeeping {
    /// Housekeeping over a pool; it uses one connection of it at a time.
    pub fn new(pool: PgPool) -> Self {
        Self { makes: pool.clone(), pool, options: Options::default() }
    }

    /// Makes days over another pool: without them nothing can be published, so they must not hang on the housekeeper's login.
    pub(crate) fn making_over(mut self, pool: PgPool) -> Self {
        self.makes = pool;
        self
    }

    /// Replaces the bounds.
    #[must_use]
    pub fn with(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Keeps house until `shutdown`, and tells the log what it did. Failures are told and tried again: there are days of room.
    pub async fn run(self, shutdown: CancellationToken) {
        loop {
            // A stop waits for a round only as long as one wait for a lock; one that is cut off is ended by the next.
            let stopped = async {
                shutdown.cancelled().await;
                tokio::time::sleep(self.options.lock_timeout).await;
            };
            let round = tokio::select! {
                () = stopped => return,
                round = tokio::time::timeout(self.options.every, self.round()) => round,
            };
            let pause = match round {
                Ok(Ok(report)) => self.tell(&report),
                Ok(Err(error)) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "the log's days could not be looked after; trying again");
                    self.options.retry
                }
                Err(_) => {
                    tracing::error!(
                        "looking after the log's days took too long and was given up; trying again"
                    );
                    self.options.retry
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One round by the database's clock: makes days ahead, then drops those older than `keep_days`.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::Database`]; days that were dropped before it stay dropped.
    pub async fn round(&self) -> Result<Report, Error> {
        let made = store::make_partitions(&self.makes, i32::from(self.options.ahead_days)).await?;
        let keep_from = store::keep_from(&self.pool, i32::from(self.options.keep_days.max(1))).await?;
        Ok(Report { made, ..self.drop_before(keep_from).await? })
    }

    /// Drops the days before `keep_from` that nothing needs, oldest first.
    ///
    /// # Errors
    /// As [`Housekeeping::round`].
    pub async fn drop_before(&self, keep_from: Date) -> Result<Report, Error> {
        let mut connection = self.pool.acquire().await?;
        // Its lock and its setting end with the session, however this ends.
        connection.close_on_drop();
        let mut report = Report::default();
        let ended = self.drop_days(&mut connection, keep_from, &mut report).await;
        match ended {
            Ok(stopped) => report.stopped = stopped,
            Err(error) if is_lock_timeout(&error) => report.stopped = Some(Stopped::Locked),
            Err(error) => return Err(error.into()),
        }
        Ok(report)
    }

    async fn drop_days(
        &self,
        connection: &mut PgConnection,
        keep_from: Date,
        report: &mut Report,
    ) -> sqlx::Result<Option<Stopped>> {
        let days = store::days(connection).await?;
        let due = |day: &Day| day.day < keep_from || day.state == "detaching";
        if !days.iter().any(due) {
            return Ok(None);
        }
        if !store::owns_logs(connection).await? {
            return Ok(Some(Stopped::NotOwner));
        }
        store::bound_lock_waits(connection, self.options.lock_timeout).await?;
        if !store::try_retention_lock(connection).await? {
            return Ok(Some(Stopped::Busy));
        }
        // Read again: somebody else may have kept house until now.
        for mut day in store::days(connection).await?.into_iter().filter(due) {
            if report.dropped.len() >= self.options.drops_max {
                return Ok(Some(Stopped::Enough));
            }
            if day.state == "detaching" {
                store::finalize(connection, &day).await?;
                day.state = "detached".into();
            }
            if day.day >= keep_from {
                // Detached by hand, and not to the end: publishers and readers need it back.
                report.made += i32::from(store::make_partition(connection, &day).await?);
                continue;
            }
            drop_day(connection, day, report).await?;
        }
        Ok(None)
    }

    /// How long until the next round.
    fn tell(&self, report: &Report) -> Duration {
        if report.made > 0 || !report.dropped.is_empty() {
            tracing::info!(made = report.made, dropped = ?report.dropped, "days of the log");
        }
        for Kept { day, because } in &report.kept {
            tracing::warn!(day, because, "an old day of the log is kept: it is needed");
        }
        match report.stopped {
            None => self.options.every,
            Some(Stopped::NotOwner) => {
                tracing::warn!("old days of the log stay: this role is not its housekeeper");
                self.options.every
            }
            Some(stopped) => {
                tracing::info!(?stopped, "old days of the log are left; trying again");
                self.options.retry
            }
        }
    }
}

/// Drops one old day, unless something needs it. A transaction that was open since that day may have committed while the day was
/// detached, which waits for it; so the question is asked again before the drop.
async fn drop_day(connection: &mut PgConnection, day: Day, report: &mut Report) -> sqlx::Result<()> {
    let mut because = store::needed(connection, &day).await?;
    if because.is_none() && day.state == "attached" {
        store::detach(connection, &day).await?;
        because = store::needed(connection, &day).await?;
        if because.is_some() {
            store::make_partition(connection, &day).await?;
        }
    } else if because.is_some() && day.state == "detached" {
        store::make_partition(connection, &day).await?;
    }
    match because {
        Some(because) => report.kept.push(Kept { day: day.name, because }),
        None => {
            store::drop_day(connection, &day).await?;
            report.dropped.push(day.name);
        }
    }
    Ok(())
}

/// 55P03: a lock was not to be had in time.
fn is_lock_timeout(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|e| e.code().as_deref() == Some("55P03"))
}
