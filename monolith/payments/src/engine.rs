//! Acting derives from state: whoever owns a payment with open work does it, whoever began it.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::effect::{Intent, intend_requested};
use crate::store::Requested;
use crate::{Error, Home, Point, effect, forget, store};

/// The bounds of an engine.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Effects at once, and the most that one look at the tables takes. Default 32: an effect that waits for the provider holds
    /// no connection.
    pub concurrency: u32,
    /// The pause after a look that found work. Default 10 ms.
    pub poll_min: Duration,
    /// The pause that doubling looks without work end at. Default 200 ms.
    pub poll_max: Duration,
    /// How long running effects may take to end at a shutdown. Default 10 s; what has not ended by then, another engine
    /// continues from the tables.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrency: 32,
            poll_min: Duration::from_millis(10),
            poll_max: Duration::from_millis(200),
            drain: Duration::from_secs(10),
        }
    }
}

/// Charges and authorizes requested payments that its home owns, and takes up intents that nobody works on: those without an
/// answer, and those of a process that died. Several engines of a home share the work.
#[derive(Debug)]
pub struct Engine {
    home: Home,
    limits: Limits,
    permits: Arc<Semaphore>,
    effects: TaskTracker,
}

/// Where an engine is in its round of the tenants.
#[derive(Debug, Default)]
struct Round {
    turn: usize,
    due: store::Floors,
    requested: store::Floors,
}

/// The pause after a look at the tables that failed.
const FAILED_PAUSE: Duration = Duration::from_secs(1);

impl Engine {
    /// An engine of a home.
    pub fn new(home: Home, limits: Limits) -> Self {
        let permits = usize::try_from(limits.concurrency.max(1)).unwrap_or(1);
        Self { home, limits, permits: Arc::new(Semaphore::new(permits)), effects: TaskTracker::new() }
    }

    /// Works until the shutdown, then waits for what runs. A database that is away is waited for.
    pub async fn run(self, shutdown: CancellationToken) {
        // In one task, so that neither ends without the other, nor unseen.
        let forgetting = forget::run(self.home.clone(), shutdown.clone());
        tokio::join!(self.work(shutdown), forgetting);
    }

    async fn work(&self, shutdown: CancellationToken) {
        let (mut pause, mut round) = (self.limits.poll_min, Round::default());
        // While every permit is in use there is nothing to look for.
        while let Some(permit) = self.permit(&shutdown).await {
            pause = match self.look(permit, &mut round).await {
                // Tenants that it has not come to are looked at without a rest.
                Ok(0) if round.is_through() => pause.saturating_mul(2).min(self.limits.poll_max),
                // More may wait than there were permits for; the next look waits for one of these.
                Ok(_) if self.permits.available_permits() == 0 => Duration::ZERO,
                Ok(_) => self.limits.poll_min,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "the engine could not look for work");
                    FAILED_PAUSE
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
                // What came is committed in a moment.
                () = self.home.work.came(), if pause > self.limits.poll_min => {
                    pause = self.limits.poll_min;
                    tokio::time::sleep(pause).await;
                }
            }
        }
        self.effects.close();
        if tokio::time::timeout(self.limits.drain, self.effects.wait()).await.is_err() {
            let running = self.effects.len();
            tracing::warn!(running, "the engine ends before its effects; another one continues them");
        }
    }

    /// A free permit; `None` at the shutdown.
    async fn permit(&self, shutdown: &CancellationToken) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => None,
            permit = self.permits.clone().acquire_owned() => permit.ok(),
        }
    }

    /// One look at the tables: starts as much work as there are free permits and returns how much. Intents without an answer
    /// get half of the permits, the odd one every other turn, so that a slow provider does not keep new payments waiting.
    async fn look(&self, first: OwnedSemaphorePermit, round: &mut Round) -> Result<usize, Error> {
        round.turn += 1;
        let mut permits = vec![first];
        while let Ok(permit) = self.permits.clone().try_acquire_owned() {
            permits.push(permit);
        }
        let most = count((permits.len() + round.turn % 2) / 2);
        let mut connection = self.home.pool.acquire().await?;
        let mut started = 0;
        let mut resumed = Vec::new();
        // A look that may take nothing would pass tenants over.
        if most > 0 {
            let due = store::claim_due(&mut connection, &mut round.due, most).await?;
            (started, resumed) = (due.touched, due.work);
        }
        if !resumed.is_empty() {
            self.home.crash.point(Point::DueClaimed);
        }
        for (intent, permit) in resumed.into_iter().zip(permits.drain(..started.min(permits.len()))) {
            self.resume(intent, permit);
        }
        if !permits.is_empty() {
            let most = count(permits.len());
            let requested = store::claim_requested(&mut connection, &mut round.requested, most).await?;
            if !requested.work.is_empty() {
                self.home.crash.point(Point::RequestedClaimed);
            }
            started += requested.touched;
            for (claimed, permit) in requested.work.into_iter().zip(permits) {
                self.begin(claimed, permit);
            }
        }
        Ok(started)
    }

    fn resume(&self, intent: Intent, permit: OwnedSemaphorePermit) {
        let home = self.home.clone();
        self.effects.spawn(async move {
            resume(&home, &intent).await;
            drop(permit);
        });
    }

    fn begin(&self, claimed: Requested, permit: OwnedSemaphorePermit) {
        let (home, id) = (self.home.clone(), claimed.id);
        self.effects.spawn(async move {
            match intend_requested(&home, id).await {
                Ok(Some(intent)) => resume(&home, &intent).await,
                // Done by another engine, or changing its owner; it is looked at again.
                Ok(None) | Err(Error::Busy(_)) => {}
                Err(Error::NotOwner) => leave(&home, claimed).await,
                Err(error) => {
                    tracing::warn!(payment = %id, error = &error as &dyn std::error::Error, "a payment could not be begun");
                }
            }
            drop(permit);
        });
    }

    /// One look, and the end of all it started; for tests.
    #[cfg(test)]
    pub(crate) async fn once(&self) -> Result<usize, Error> {
        let Some(permit) = self.permit(&CancellationToken::new()).await else { return Ok(0) };
        let started = self.look(permit, &mut Round::default()).await?;
        self.effects.close();
        self.effects.wait().await;
        self.effects.reopen();
        Ok(started)
    }
}

impl Round {
    /// Both begin with the first tenant again.
    fn is_through(&self) -> bool {
        self.due.is_through() && self.requested.is_through()
    }
}

/// Leaves a payment to the other home. Thousands of them may wait there, and looking at each would slow this home's own.
async fn leave(home: &Home, claimed: Requested) {
    if let Err(error) = store::leave(&home.pool, claimed).await {
        tracing::warn!(payment = %claimed.id, error = &error as &dyn std::error::Error, "a foreign payment is looked at again soon");
    }
}

async fn resume(home: &Home, intent: &Intent) {
    if let Err(error) = effect::run(home, intent).await {
        tracing::warn!(payment = %intent.payment.id, error = &error as &dyn std::error::Error, "an effect has to be tried again");
    }
}

fn count(permits: usize) -> i64 {
    i64::try_from(permits).unwrap_or(i64::MAX)
}
