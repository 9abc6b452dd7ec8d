//! The parts of a process: they start together and end together.

use std::convert::Infallible;
use std::error::Error;

use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

type BoxError = Box<dyn Error + Send + Sync>;

/// Why a process ends before it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// A part returned, though nothing was cancelled.
    #[error("{0} ended by itself")]
    ByItself(&'static str),
    /// A part returned an error.
    #[error("{name} failed")]
    Failed {
        /// The part.
        name: &'static str,
        /// Its error.
        source: BoxError,
    },
    /// A part panicked.
    #[error("a part panicked")]
    Panicked(#[source] JoinError),
}

/// The parts that run. Each ends by itself or when the token is cancelled.
#[derive(Debug)]
pub struct Tasks {
    running: JoinSet<(&'static str, Result<(), BoxError>)>,
    shutdown: CancellationToken,
}

impl Tasks {
    /// No parts yet; all will end with `shutdown`.
    pub fn new(shutdown: CancellationToken) -> Self {
        Self { running: JoinSet::new(), shutdown }
    }

    /// The token that ends all parts.
    pub fn shutdown(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Starts a part.
    pub fn spawn<E: Into<BoxError>>(
        &mut self,
        name: &'static str,
        work: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.running.spawn(async move { (name, work.await.map_err(Into::into)) });
    }

    /// Waits for all parts. One that ends, ends all: each is asked to, none is dropped in the middle of a transaction.
    ///
    /// # Errors
    /// The first part that ended before it was asked to.
    pub async fn join(&mut self) -> Result<(), Ended> {
        let mut result = Ok(());
        while let Some(ended) = self.running.join_next().await {
            let failed = match ended {
                Ok((name, Ok(()))) if self.shutdown.is_cancelled() => {
                    tracing::debug!(name, "a part ended");
                    continue;
                }
                Ok((name, Ok(()))) => Ended::ByItself(name),
                Ok((name, Err(source))) => Ended::Failed { name, source },
                Err(error) => Ended::Panicked(error),
            };
            tracing::error!(error = &failed as &dyn Error, "the process ends");
            self.shutdown.cancel();
            result = result.and(Err(failed));
        }
        result
    }
}

/// A part that has no errors, for [`Tasks::spawn`].
///
/// # Errors
/// None.
pub async fn never_fails(work: impl Future<Output = ()>) -> Result<(), Infallible> {
    work.await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_ends_ends_all() {
        let mut tasks = Tasks::new(CancellationToken::new());
        let patient = tasks.shutdown();
        tasks.spawn("patient", never_fails(async move { patient.cancelled().await }));
        tasks.spawn("hasty", async { Err::<(), BoxError>("no broker".into()) });
        let ended = tasks.join().await.unwrap_err();
        assert!(matches!(&ended, Ended::Failed { name: "hasty", .. }), "{ended}");
    }

    #[tokio::test]
    async fn parts_that_were_asked_to_end_have_not_failed() {
        let mut tasks = Tasks::new(CancellationToken::new());
        let token = tasks.shutdown();
        tasks.shutdown().cancel();
        tasks.spawn("patient", never_fails(async move { token.cancelled().await }));
        assert!(tasks.join().await.is_ok());
    }
}
