//! Answers are kept for 7 days. A record that is older counts as absent when its key comes again, whether or not it is gone.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::{Home, Point, store};

/// The pause between two rounds.
const EVERY: Duration = Duration::from_secs(60);
/// Records that one statement deletes.
const BATCH_MAX: i64 = 1_000;

/// Deletes what is too old, once a minute, until the shutdown. Several engines share it. A failed round is made good by the next.
pub(crate) async fn run(home: Home, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        let forgotten = tokio::select! {
            // The engine waits for this to end; a batch that is given up is the next engine's.
            () = shutdown.cancelled() => return,
            forgotten = round(&home) => forgotten,
        };
        if let Err(error) = forgotten {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "old answers could not be forgotten; the next round tries again");
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn round(home: &Home) -> Result<(), crate::Error> {
    loop {
        let forgotten = store::forget_answers(&home.pool, BATCH_MAX).await?;
        if forgotten > 0 {
            home.crash.point(Point::AnswersForgotten);
            tracing::debug!(forgotten, "old answers were forgotten");
        }
        if i64::try_from(forgotten).unwrap_or(i64::MAX) < BATCH_MAX {
            return Ok(());
        }
    }
}
