//! Signals become a token; what has to end gets a bounded time to do so.

use std::future::Future;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How long a process may take to end when nobody said otherwise.
pub const GRACE: Duration = Duration::from_secs(20);

/// The orderly end of a process.
#[derive(Debug, Clone)]
pub struct Shutdown {
    token: CancellationToken,
    grace: Duration,
}

/// The work had not ended when the grace was over.
#[derive(Debug, thiserror::Error)]
#[error("not ended within {} ms of the shutdown signal", grace.as_millis())]
pub struct TooLate {
    grace: Duration,
}

impl Shutdown {
    /// Listens for SIGINT and SIGTERM from now on. The first cancels [`Shutdown::token`]; the second
    /// ends the process at once with exit code 130.
    ///
    /// # Errors
    /// When the signal handlers can't be installed.
    pub fn listen(grace: Duration) -> std::io::Result<Self> {
        let shutdown = Self::by_hand(grace);
        let interrupt = signal(SignalKind::interrupt())?;
        let terminate = signal(SignalKind::terminate())?;
        // Detached on purpose: it lives as long as the process and owns nothing.
        tokio::spawn(watch(interrupt, terminate, shutdown.token()));
        Ok(shutdown)
    }

    /// A shutdown without signals, for tests: cancel its token.
    pub fn by_hand(grace: Duration) -> Self {
        Self { token: CancellationToken::new(), grace }
    }

    /// Cancelled when the process shall end.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Runs the work to its end; once the token is cancelled, for at most the grace.
    ///
    /// # Errors
    /// [`TooLate`] when it didn't end in time; the process should then exit with a code that is not zero.
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> Result<T, TooLate> {
        let too_late = async {
            self.token.cancelled().await;
            tokio::time::sleep(self.grace).await;
        };
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = too_late => Err(TooLate { grace: self.grace }),
        }
    }
}

async fn watch(mut interrupt: Signal, mut terminate: Signal, token: CancellationToken) {
    either(&mut interrupt, &mut terminate).await;
    tracing::info!("shutting down");
    token.cancel();
    either(&mut interrupt, &mut terminate).await;
    tracing::warn!("second signal: ending at once");
    std::process::exit(130);
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_ends_is_awaited_and_work_that_hangs_is_not() {
        let shutdown = Shutdown::by_hand(Duration::from_millis(20));
        let token = shutdown.token();
        let orderly = async { token.cancelled().await };
        shutdown.token().cancel();
        assert!(shutdown.run(orderly).await.is_ok());
        let error = shutdown.run(std::future::pending::<()>()).await.unwrap_err();
        assert_eq!(error.to_string(), "not ended within 20 ms of the shutdown signal");
    }
}
