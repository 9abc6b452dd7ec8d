//! Whether the source's copy is retired, for the parts of a program that would go on with it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::store::sealed as store;

/// How old an answer may be: who asks for each list asks the database now and then only.
const AGE_MAX: Duration = Duration::from_secs(5);
/// The pause between two looks of who waits for it.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Whether the source of a migration is sealed. Clones share what they know.
#[derive(Debug, Clone)]
pub struct Seal {
    migration: Arc<str>,
    pool: PgPool,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Clone, Copy, Default)]
enum Known {
    #[default]
    Nothing,
    OpenAt(Instant),
    /// Nothing leads back from it.
    Set,
}

impl Seal {
    /// Its role needs [`crate::grant_writer`] or [`crate::grant_controller`].
    pub fn new(migration: &str, pool: PgPool) -> Self {
        Self { migration: migration.into(), pool, known: Arc::default() }
    }

    /// Whether it is set, at most 5 s old.
    ///
    /// # Errors
    /// The database's failure.
    pub async fn is_set(&self) -> Result<bool, Error> {
        match self.known() {
            Known::Set => Ok(true),
            Known::OpenAt(at) if at.elapsed() < AGE_MAX => Ok(false),
            Known::OpenAt(_) | Known::Nothing => self.look().await,
        }
    }

    /// Whether it is set, as soon as the database tells: one that is away is asked again each second. None when the shutdown comes
    /// before the answer.
    pub async fn told(&self, shutdown: &CancellationToken) -> Option<bool> {
        let mut warned = false;
        loop {
            match self.is_set().await {
                Ok(set) => return Some(set),
                Err(error) if !warned => {
                    warned = true;
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(
                        error,
                        "nobody knows whether the source is sealed: what goes by that waits"
                    );
                }
                Err(_) => {}
            }
            tokio::select! {
                () = shutdown.cancelled() => return None,
                () = sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Runs a part of the source until `shutdown`, or until the seal is set: then the part is told to end, and this waits for the
    /// shutdown. A part of a source that is sealed already does not begin. What it fails with after the seal was set is no failure:
    /// it has lost its rights.
    ///
    /// # Errors
    /// The part's, before the seal was set.
    pub async fn until_set<F, E>(
        self,
        shutdown: CancellationToken,
        name: &'static str,
        part: impl FnOnce(CancellationToken) -> F,
    ) -> Result<(), E>
    where
        F: Future<Output = Result<(), E>>,
        E: std::fmt::Display,
    {
        let Some(set) = self.told(&shutdown).await else { return Ok(()) };
        if !set {
            let stop = shutdown.child_token();
            let mut part = Box::pin(part(stop.clone()));
            let ended = tokio::select! {
                ended = &mut part => ended,
                () = self.set() => {
                    tracing::info!(migration = &*self.migration, name, "the source is sealed: a part of it ends");
                    stop.cancel();
                    part.await
                }
            };
            // It may have met the loss of its rights before the seal was seen.
            if shutdown.is_cancelled() || !matches!(self.look().await, Ok(true)) {
                return ended;
            }
            if let Err(error) = ended {
                tracing::info!(%error, name, "a part of a source that was being sealed ended with this");
            }
        }
        shutdown.cancelled().await;
        Ok(())
    }

    /// Returns once it is set. A database that is away is waited for.
    async fn set(&self) {
        while !matches!(self.look().await, Ok(true)) {
            sleep(LOOK_EVERY).await;
        }
    }

    async fn look(&self) -> Result<bool, Error> {
        let set = store::is_sealed(&self.pool, &self.migration).await?;
        let known = if set { Known::Set } else { Known::OpenAt(Instant::now()) };
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(set)
    }

    fn known(&self) -> Known {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
