//! One round of one way: a closed loop for what it can do, an open one for how long an order takes.

use std::time::Duration;

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use sqlx::PgPool;
use stack::Stack;
use tokio::time::{Instant, sleep};

use super::{
    database,
    load::{self, Closed},
    processes,
    shop::Side,
    stages::{self, Stages},
    statements,
};
use crate::report::Statement;

/// A closed loop is steady when its rates of so many seconds in a row ..
const STEADY_SECONDS: usize = 3;
/// .. differ by no more than this share of their mean.
const STEADY_SPREAD: f64 = 0.2;
/// How long it is waited for that.
const STEADY_TIMEOUT: Duration = Duration::from_secs(20);

/// How long the processes are watched without an order.
const AT_REST: Duration = Duration::from_secs(2);

/// Where a round takes place.
pub(super) struct Field<'a> {
    pub(super) stack: &'a Stack,
    /// A superuser's pool of the database that has the extensions.
    pub(super) admin: &'a PgPool,
    /// The shop's databases.
    pub(super) databases: Vec<String>,
}

/// What a closed loop came to. Counts are those of its window.
pub(super) struct Counted {
    pub(super) seconds: f64,
    /// Orders that became paid.
    pub(super) paid: f64,
    pub(super) steady: bool,
    pub(super) statements: f64,
    /// Of these those that only begin, end or set something.
    pub(super) control: f64,
    /// With those that only read.
    pub(super) transactions: f64,
    /// Transactions that wrote, and waited for the disk.
    pub(super) commits: f64,
    /// Those that wrote and did not wait, at most.
    pub(super) unawaited: f64,
    /// Connections that the shop held.
    pub(super) sessions: u32,
    pub(super) cpu: Vec<(String, f64)>,
    pub(super) asked: Vec<Statement>,
}

/// What an open loop came to.
pub(super) struct Timed {
    /// Microseconds from when an order was due until its acceptance was heard.
    pub(super) accepted: Histogram<u64>,
    pub(super) stages: Stages,
}

impl Field<'_> {
    /// Keeps `at_once` orders under way, and counts what happens in `seconds` once it is steady.
    pub(super) async fn closed(&self, side: &Side<'_>, at_once: u32, seconds: u64) -> Result<Counted> {
        database::checkpoint(self.admin).await?;
        let mut customers = Closed::start(side, at_once);
        let steady = steady(&mut customers).await?;
        let counted = self.window(side, steady, seconds).await;
        customers.check()?;
        customers.stop().await?;
        counted
    }

    async fn window(&self, side: &Side<'_>, steady: bool, seconds: u64) -> Result<Counted> {
        let (admin, source) = (self.admin, &side.shop.source);
        let transactions = database::transactions(admin, &self.databases).await?;
        let cpu = processes::cpu(self.stack, side).await?;
        let log = database::flushed(admin).await?;
        statements::reset(admin).await?;
        let from = database::now(source).await?;
        sleep(Duration::from_secs(seconds)).await;
        let until = database::now(source).await?;
        let rows = statements::read(admin, &self.databases).await?;
        let log_end = database::flushed(admin).await?;
        let cpu = processes::since(&cpu, &processes::cpu(self.stack, side).await?);
        let transactions = database::transactions(admin, &self.databases).await? - transactions;
        let sessions = database::sessions(admin, &self.databases).await?;
        let commits = database::commits(admin, &log, &log_end).await?;
        let paid = database::paid_between(source, side.way.owner(), from, until).await?;
        let (all, control) = statements::counts(&rows);
        let unawaited = statements::unawaited(&rows);
        let waited = commits - unawaited;
        ensure!(
            paid > 0 && all > paid && waited > 0 && sessions > 0,
            "nothing was measured: {paid} orders paid, {all} statements, {waited} commits, {sessions} sessions"
        );
        let orders = float(paid);
        Ok(Counted {
            seconds: (until - from).as_seconds_f64(),
            paid: orders,
            steady,
            statements: float(all),
            control: float(control),
            transactions: float(transactions),
            commits: float(waited),
            unawaited: float(unawaited),
            sessions: u32::try_from(sessions)?,
            cpu,
            asked: statements::kept(&rows, side.way.name(), orders),
        })
    }

    /// Statements a second while no order is under way.
    pub(super) async fn at_rest(&self) -> Result<f64> {
        // What was begun may end first.
        sleep(AT_REST / 2).await;
        let began = Instant::now();
        statements::reset(self.admin).await?;
        sleep(AT_REST).await;
        let (all, _) = statements::counts(&statements::read(self.admin, &self.databases).await?);
        Ok(float(all) / began.elapsed().as_secs_f64())
    }

    /// Places orders at a rate, and says how long each took.
    pub(super) async fn open(&self, side: &Side<'_>, rate: f64, seconds: u64) -> Result<Timed> {
        database::checkpoint(self.admin).await?;
        let from = database::now(&side.shop.source).await?;
        let journal = std::fs::metadata(side.journal())?.len();
        let placed = load::open_loop(side, rate, seconds).await?;
        let stages = stages::stages(side, &placed.orders, from, journal).await?;
        Ok(Timed { accepted: placed.accepted, stages })
    }
}

/// Waits until the rate stays about the same. False when it did not in time.
async fn steady(customers: &mut Closed) -> Result<bool> {
    let began = Instant::now();
    let (mut last, mut rates) = (customers.paid(), Vec::new());
    while began.elapsed() < STEADY_TIMEOUT {
        let second = Instant::now();
        sleep(Duration::from_secs(1)).await;
        customers.check()?;
        let paid = customers.paid();
        rates.push(crate::limits::per_second(paid - last, second.elapsed().as_secs_f64()));
        last = paid;
        if rates.last_chunk::<STEADY_SECONDS>().is_some_and(|rates| is_steady(rates)) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_steady(rates: &[f64]) -> bool {
    crate::report::spread(rates) <= STEADY_SPREAD
}

fn float(count: i64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are far below 2^53")]
    let float = count as f64;
    float
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_without_orders_is_never_steady() {
        assert!(is_steady(&[100.0, 110.0, 95.0]));
        assert!(!is_steady(&[100.0, 130.0, 95.0]));
        assert!(!is_steady(&[0.0, 0.0, 0.0]));
    }
}
