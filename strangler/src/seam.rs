//! Sends a call to the home that owns its key, and again elsewhere when that home was not the owner.

mod reading;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng as _;

pub use self::reading::Asked;
use crate::{Epoch, Error, Fallback, Home, Owners, Ownership, Phase, Reads};

/// What a home's error means to the seam.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// An answer to the caller: hand it on.
    Final,
    /// This home does not own the key, and did nothing: look for the owner again.
    NotOwner,
    /// The key is between owners or not applied here yet, and nothing was done: try again a moment later.
    Moving,
}

/// The two homes of a domain, as the seam sees them. Implemented by a type of the program that knows both.
pub trait Homes: Send + Sync + 'static {
    /// What both homes are, such as `dyn prices::Desk`.
    type Desk: ?Sized + Send + Sync + 'static;
    /// Their error.
    type Error: Send;

    /// What an error of the home `at` means. Anything but [`Answer::Final`] repeats the call, so it must mean that
    /// nothing was done.
    fn answer(error: &Self::Error, at: Home) -> Answer;

    /// The error for a call that reached no owner: [`Error::UnknownKey`], [`Error::Moving`] (retryable), or a failure of the
    /// database.
    fn unroutable(error: Error) -> Self::Error;

    /// Why the target's copy did not answer a read, by its error.
    fn fallback(_error: &Self::Error) -> Fallback {
        Fallback::Error
    }
}

/// How often and how long a call is sent again.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The most repeats of a call. Default 40: with the default pauses they last as long as `reroute_timeout`.
    pub reroutes_max: u32,
    /// No repeat starts later than this after the call came. Default 2 s, which is as long as a controller may hold the owner
    /// rows of a batch.
    pub reroute_timeout: Duration,
    /// The first pause; each is twice the one before, up to `pause_max`, less up to a half at random, and the last is what is left of
    /// the time. Default 20 ms.
    pub pause: Duration,
    /// The longest pause: so long a write may miss that its key has come to rest. Default 80 ms.
    pub pause_max: Duration,
}

/// The two homes behind one face.
pub struct Seam<H: Homes> {
    owners: Owners,
    source: Arc<H::Desk>,
    target: Arc<H::Desk>,
    bounds: Bounds,
    reads: Option<Reads>,
}

/// The repeats of one call.
struct Repeats {
    bounds: Bounds,
    started: Instant,
    done: u32,
}

impl<H: Homes> Seam<H> {
    /// Over two homes, with the default bounds.
    pub fn new(owners: Owners, source: Arc<H::Desk>, target: Arc<H::Desk>) -> Self {
        Self { owners, source, target, bounds: Bounds::default(), reads: None }
    }

    /// With other bounds.
    #[must_use]
    pub fn bounds(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }

    /// Runs a read at the key's owner, known at most a second late.
    ///
    /// # Errors
    /// The home's, or [`Homes::unroutable`].
    pub async fn read<T, F, Fut>(&self, key: &str, run: F) -> Result<T, H::Error>
    where
        F: Fn(Arc<H::Desk>) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T, H::Error>> + Send,
    {
        let mut repeats = Repeats::new(self.bounds);
        let mut owner = self.owners.find(key).await.map_err(H::unroutable)?;
        self.read_from(&mut owner, key, &mut repeats, &run).await
    }

    /// Asks this owner, or whoever is it instead, who then stands in its place.
    async fn read_from<T, F, Fut>(
        &self,
        owner: &mut Ownership,
        key: &str,
        repeats: &mut Repeats,
        run: &F,
    ) -> Result<T, H::Error>
    where
        F: Fn(Arc<H::Desk>) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T, H::Error>> + Send,
    {
        loop {
            let error = match run(self.home(owner.home)).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            *owner = self.next(key, repeats, owner.home, error).await?;
        }
    }

    /// Runs a write at the key's owner, asked for now, with the epoch it was settled at. The home decides by its own lock
    /// whether it is still the owner; when it is not, the write is sent again, at most [`Bounds::reroutes_max`] times.
    ///
    /// A key that is called back is still its home's: that ends what is under way and knows the answers it gave. So the home is
    /// asked, with epoch 0: nothing to be granted. A key on its way to the target is quiet, and waited for.
    ///
    /// # Errors
    /// The home's, or [`Homes::unroutable`]; [`Error::Moving`] there means that nothing was done and the caller may retry.
    pub async fn write<T, F, Fut>(&self, key: &str, run: F) -> Result<T, H::Error>
    where
        F: Fn(Arc<H::Desk>, Epoch) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T, H::Error>> + Send,
    {
        let mut repeats = Repeats::new(self.bounds);
        let mut owner = self.owners.refresh(key).await.map_err(H::unroutable)?;
        loop {
            // An epoch that is not settled gives nobody authority, so it is never shown to a home.
            let epoch = match owner.phase {
                Phase::Settled => owner.epoch,
                Phase::Recalling => Epoch(0),
                Phase::Moving => {
                    owner = self.again(key, &mut repeats, Answer::Moving).await?;
                    continue;
                }
            };
            let error = match run(self.home(owner.home), epoch).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            owner = self.next(key, &mut repeats, owner.home, error).await?;
        }
    }

    fn home(&self, home: Home) -> Arc<H::Desk> {
        match home {
            Home::Source => Arc::clone(&self.source),
            Home::Target => Arc::clone(&self.target),
        }
    }

    /// The owner to try next after an error of a home, or that error when it is the answer.
    async fn next(
        &self,
        key: &str,
        repeats: &mut Repeats,
        at: Home,
        error: H::Error,
    ) -> Result<Ownership, H::Error> {
        match H::answer(&error, at) {
            Answer::Final => Err(error),
            answer @ (Answer::NotOwner | Answer::Moving) => self.again(key, repeats, answer).await,
        }
    }

    async fn again(&self, key: &str, repeats: &mut Repeats, answer: Answer) -> Result<Ownership, H::Error> {
        if !repeats.pause(answer).await {
            tracing::info!(key, repeats = repeats.done, "a call reached no owner within its bound");
            return Err(H::unroutable(Error::Moving { key: key.to_owned() }));
        }
        self.owners.refresh(key).await.map_err(H::unroutable)
    }
}

impl<H: Homes> std::fmt::Debug for Seam<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seam")
            .field("owners", &self.owners)
            .field("bounds", &self.bounds)
            .finish_non_exhaustive()
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            reroutes_max: 40,
            reroute_timeout: Duration::from_secs(2),
            pause: Duration::from_millis(20),
            pause_max: Duration::from_millis(80),
        }
    }
}

impl Repeats {
    fn new(bounds: Bounds) -> Self {
        Self { bounds, started: Instant::now(), done: 0 }
    }

    /// Pauses before the next repeat. False when there is none left. The first `NotOwner` goes on at once: a cached owner
    /// was old.
    async fn pause(&mut self, answer: Answer) -> bool {
        if self.done >= self.bounds.reroutes_max {
            return false;
        }
        let longest = self.bounds.pause.saturating_mul(1 << self.done.min(16)).min(self.bounds.pause_max);
        let left = self.bounds.reroute_timeout.saturating_sub(self.started.elapsed());
        if left.is_zero() {
            return false;
        }
        let pause = longest.mul_f64(rand::rng().random_range(0.5..=1.0)).min(left);
        let at_once = self.done == 0 && answer == Answer::NotOwner;
        self.done += 1;
        if !at_once {
            tokio::time::sleep(pause).await;
        }
        true
    }
}
