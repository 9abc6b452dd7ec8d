//! Gives each notice to the owner of its payment, and keeps it until the owner has taken it.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::store::Due;
use crate::{Delivered, Error, Metrics, Payments, State, Step, Watch, store};

/// How long nobody else gets a notice that was claimed. Longer than [`DELIVER_TIMEOUT`] and the marking after it.
const LEASE: Duration = Duration::from_secs(30);
/// How long one try may take.
const DELIVER_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause after the first try; it doubles ..
const BACKOFF_MIN: Duration = Duration::from_millis(500);
/// .. up to this one.
const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// How often what a person must look at is asked again: its payment may have come, the books may have caught up.
const ASK_AGAIN_EVERY: Duration = Duration::from_secs(3600);
/// How long a notice is tried whose owner can't be asked. The provider itself gives up after as long.
const ASK_MAX: Duration = Duration::from_secs(3 * 24 * 3600);
/// How long a notice that ended stays.
const KEEP: Duration = Duration::from_secs(30 * 24 * 3600);
/// How many are deleted by one statement.
const FORGET_BATCH_MAX: i64 = 500;
/// How often ended ones are looked for.
const FORGET_EVERY: Duration = Duration::from_secs(60);
/// How often the gauges are read.
const OBSERVE_EVERY: Duration = Duration::from_secs(5);

/// The bounds of a dispatcher.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many notices are delivered at once. Default 16.
    pub at_once_max: usize,
    /// The shortest pause between two looks at the table; idle ones double up to ten times that. Default 50 ms.
    pub poll: Duration,
    /// How long a notice waits for its payment to be known. Default 1 hour.
    pub unplaced_after: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let unplaced_after = Duration::from_secs(3600);
        Self { at_once_max: 16, poll: Duration::from_millis(50), unplaced_after }
    }
}

/// Delivers what is due. Several may run at once, in several processes.
#[derive(Clone)]
pub struct Dispatcher {
    pool: PgPool,
    payments: Arc<dyn Payments>,
    metrics: Metrics,
    options: Options,
    watch: Watch,
}

impl Dispatcher {
    /// Over the pool of the module's role.
    pub fn new(pool: PgPool, payments: Arc<dyn Payments>, metrics: Metrics) -> Self {
        Self { pool, payments, metrics, options: Options::default(), watch: Watch::default() }
    }

    /// With other bounds.
    #[must_use]
    pub fn with(self, options: Options) -> Self {
        Self { options, ..self }
    }

    /// Tells each step.
    #[must_use]
    pub fn watched(self, watch: Watch) -> Self {
        Self { watch, ..self }
    }

    /// Runs until `shutdown`, then ends the tries that are under way, each of which is bounded.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut tries = JoinSet::new();
        let mut pause = self.options.poll;
        let (mut observe_at, mut forget_at) = (Instant::now(), Instant::now());
        self.metrics.begin();
        while !shutdown.is_cancelled() {
            if observe_at <= Instant::now() {
                observe_at = Instant::now() + OBSERVE_EVERY;
                self.observe().await;
            }
            if forget_at <= Instant::now() {
                forget_at = Instant::now() + FORGET_EVERY;
                self.forget(&shutdown).await;
            }
            let room = self.options.at_once_max.saturating_sub(tries.len());
            let claimed = self.claim(room).await;
            // A full batch: more may be due, so the next one goes as soon as one of these is done.
            let full = claimed.len() == room;
            pause =
                if claimed.is_empty() { (pause * 2).min(self.options.poll * 10) } else { self.options.poll };
            for due in claimed {
                let dispatcher = self.clone();
                tries.spawn(async move { dispatcher.deliver(due).await });
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                Some(_) = tries.join_next(), if full => {}
                () = tokio::time::sleep(pause) => {}
            }
            while tries.try_join_next().is_some() {}
        }
        while tries.join_next().await.is_some() {}
    }

    async fn claim(&self, room: usize) -> Vec<Due> {
        let batch_max = i64::try_from(room).unwrap_or_default();
        if batch_max == 0 {
            return Vec::new();
        }
        store::claim_due(&self.pool, batch_max, LEASE).await.unwrap_or_else(|error| {
            failed(&error, "notices can't be claimed; trying again");
            Vec::new()
        })
    }

    /// One try, and what follows from it. When the marking fails, the lease ends and the notice is delivered again, which
    /// its owner does not mind.
    async fn deliver(&self, due: Due) {
        let told = tokio::time::timeout(DELIVER_TIMEOUT, self.payments.deliver(&due.notice)).await;
        let marked = match told {
            Ok(Ok(Delivered::Applied)) => self.applied(&due).await,
            Ok(Ok(Delivered::Surprise(what))) => self.surprise(&due, &what).await,
            Ok(Ok(Delivered::Early)) => {
                let why = "its payment is not known, or not yet";
                self.later(&due, State::Early, why, self.options.unplaced_after).await
            }
            Ok(Err(error)) => self.unasked(&due, &error.to_string()).await,
            Err(_) => self.unasked(&due, "its owner did not answer in time").await,
        };
        if let Err(error) = marked {
            failed(&error, "a notice can't be marked; it will be delivered again");
        }
    }

    async fn applied(&self, due: &Due) -> Result<(), Error> {
        self.watch.reached(Step::Delivered);
        store::finish(&self.pool, &due.notice.id).await?;
        self.watch.reached(Step::Marked);
        self.metrics.told("applied");
        Ok(())
    }

    async fn surprise(&self, due: &Due, what: &str) -> Result<(), Error> {
        let (notice, payment, kind) = (&due.notice.id, due.notice.payment, &due.notice.kind);
        tracing::error!(notice, %payment, kind, what, "the provider tells of what the books don't have");
        self.metrics.told("surprise");
        store::park(&self.pool, notice, State::Surprise, what, ASK_AGAIN_EVERY).await
    }

    /// An owner that can't be asked takes nothing back of what a person is told.
    async fn unasked(&self, due: &Due, why: &str) -> Result<(), Error> {
        if store::ask_again(&self.pool, &due.notice.id, backoff(due.tries)).await? {
            self.metrics.told("later");
            return Ok(());
        }
        self.later(due, State::Waiting, why, ASK_MAX).await
    }

    /// Keeps it for another try; once it was tried for long enough, tries become rare and a person is told. The time counts
    /// from the receipt, whatever it was spent with, so what comes late may still find its payment.
    async fn later(&self, due: &Due, state: State, why: &str, bound: Duration) -> Result<(), Error> {
        let (notice, payment, tries) = (&due.notice.id, due.notice.payment, due.tries);
        if due.tried_for < bound {
            tracing::info!(notice, %payment, tries, why, "a notice has no place yet");
            self.metrics.told(if state == State::Early { "early" } else { "later" });
            return store::park(&self.pool, notice, state, why, backoff(tries)).await;
        }
        tracing::error!(notice, %payment, tries, why, "a notice has no place; a person must look");
        self.metrics.told("unplaced");
        store::park(&self.pool, notice, State::Unplaced, why, ASK_AGAIN_EVERY).await
    }

    async fn observe(&self) {
        match store::open(&self.pool).await {
            Ok(open) => self.metrics.observed(&open),
            Err(error) => failed(&error, "the gauges of webhooks can't be read; trying again"),
        }
    }

    async fn forget(&self, shutdown: &CancellationToken) {
        while !shutdown.is_cancelled() {
            match store::forget_ended(&self.pool, KEEP, FORGET_BATCH_MAX).await {
                Ok(gone) if i64::try_from(gone).is_ok_and(|gone| gone < FORGET_BATCH_MAX) => return,
                Ok(_) => {}
                Err(error) => return failed(&error, "old notices can't be deleted; trying again"),
            }
        }
    }
}

fn failed(error: &Error, what: &'static str) {
    tracing::warn!(error = error as &dyn std::error::Error, "{what}");
}

/// After 1, 2, 3 .. tries.
fn backoff(tries: i32) -> Duration {
    let doublings = u32::try_from(tries.clamp(1, 16) - 1).unwrap_or_default();
    BACKOFF_MIN.saturating_mul(1 << doublings).min(BACKOFF_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_become_rarer_up_to_a_bound() {
        let pauses = [1, 2, 3, 10, i32::MAX].map(backoff);
        assert_eq!(pauses.map(|pause| pause.as_millis()), [500, 1_000, 2_000, 256_000, 300_000]);
    }
}
