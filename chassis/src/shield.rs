//! Work that outlives the request that asked for it.

use std::future::Future;

use opentelemetry::trace::FutureExt as _;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

/// The work gave no answer. Whether it took effect is unknown: look at the tables, not at this error.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// It panicked.
    #[error("the work panicked")]
    Panicked,
    /// The runtime ended.
    #[error("the work was cancelled by the end of the runtime")]
    Cancelled,
}

/// Runs `work` in a task of its own and awaits it. axum and tonic drop a handler's future when the client
/// goes away; a money transaction must then run on to its end, so only this waiting is dropped. The
/// process joins `tracker` (close, wait) before it ends.
///
/// # Errors
/// [`Lost`] when the task panicked or the runtime ended.
pub async fn shield<T: Send + 'static>(
    tracker: &TaskTracker,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, Lost> {
    // A task of its own, but in the caller's trace: what the work publishes belongs to it.
    let task = tracker.spawn(work.in_current_span().with_current_context());
    task.await.map_err(|error| if error.is_panic() { Lost::Panicked } else { Lost::Cancelled })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn a_caller_that_leaves_does_not_stop_the_work() {
        let tracker = TaskTracker::new();
        let (go, done) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (wait, tell) = (go.clone(), done.clone());
        let work = async move {
            wait.notified().await;
            tell.notify_one();
        };
        let left = tokio::time::timeout(Duration::from_millis(5), shield(&tracker, work)).await;
        assert!(left.is_err());
        go.notify_one();
        tokio::time::timeout(Duration::from_secs(5), done.notified()).await.unwrap();
        tracker.close();
        tokio::time::timeout(Duration::from_secs(5), tracker.wait()).await.unwrap();
    }

    #[tokio::test]
    async fn a_panic_is_an_answer() {
        let lost = shield(&TaskTracker::new(), async { panic!("on purpose") }).await;
        assert!(matches!(lost, Err::<(), _>(Lost::Panicked)));
    }
}
