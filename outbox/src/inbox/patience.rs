//! Waiting for a database or a broker that is down.

use std::{future::Future, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{InboxOptions, verdict::is_passing};
use crate::Error;

/// Repeats work that only needs time, with bounded waits, until it is told to stop.
#[derive(Clone)]
pub(super) struct Patience {
    stop: CancellationToken,
    first: Duration,
    longest: Duration,
}

impl Patience {
    pub(super) fn new(options: &InboxOptions, stop: CancellationToken) -> Self {
        Self { stop, first: options.passing_delay, longest: options.outage_delay_max }
    }

    /// Whether it was told to stop.
    pub(super) fn is_over(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// The work's result; `None` when the stop came first.
    ///
    /// # Errors
    /// What waiting can't mend.
    pub(super) async fn until<T, F: Future<Output = Result<T, Error>>>(
        &self,
        work: impl Fn() -> F,
    ) -> Result<Option<T>, Error> {
        let mut delay = self.first;
        loop {
            let error = match work().await {
                Ok(done) => return Ok(Some(done)),
                Err(error) => error,
            };
            match &error {
                Error::Database(cause) if is_passing(cause) => {}
                // The sweep makes room.
                Error::Broker(_) | Error::ParkedFull { .. } => {}
                _ => return Err(error),
            }
            tracing::warn!(error = &error as &dyn std::error::Error, "the inbox waits");
            tokio::select! {
                () = self.stop.cancelled() => return Ok(None),
                () = tokio::time::sleep(delay) => {}
            }
            delay = (delay * 2).min(self.longest);
        }
    }
}
