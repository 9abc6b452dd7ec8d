//! Doing what others have asked for, such as an operator at `psql`.

use std::collections::HashMap;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::{Options, Replay, redeliver, send};
use crate::{Error, Sink, store};

/// Open replays that one look finds; the others have their turn when these have ended.
const OPEN_MAX: i64 = 100;

/// Failures of one replay until it is left alone.
const FAILURES_MAX: u32 = 10;

/// Looks for open replays every `options.every` and does them one after the other, oldest first, those to Kafka over `sink`, until
/// `shutdown`. One that fails is tried again; after ten failures it is told as an error and left, and a day later it is over. A stop
/// does not wait: at most a batch is repeated by whoever goes on. Run it in one process: two repeat each other's batches now and
/// then. The pool's role needs [`crate::grant_operator`].
pub async fn run<S: Sink>(pool: PgPool, sink: S, options: Options, shutdown: CancellationToken) {
    let mut failures = HashMap::new();
    let work = async {
        loop {
            if let Err(error) = round(&pool, &sink, &options, &mut failures).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "open replays could not be looked for; trying again");
            }
            tokio::time::sleep(options.every).await;
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = work => {}
    }
}

async fn round<S: Sink>(
    pool: &PgPool,
    sink: &S,
    options: &Options,
    failures: &mut HashMap<i64, u32>,
) -> Result<(), Error> {
    let open = store::open_replays(pool, OPEN_MAX).await?;
    failures.retain(|id, _| open.iter().any(|replay| replay.id == *id));
    for Replay { id, handler, .. } in open {
        if failures.get(&id).is_some_and(|failed| *failed >= FAILURES_MAX) {
            continue;
        }
        let done = if handler.is_none() {
            send(pool, sink, id, options).await
        } else {
            redeliver(pool, id, options).await
        };
        match done {
            Ok(done) => tracing::info!(replay = id, done.delivered, done.passed, "a replay has ended"),
            // Ended by somebody, or in other hands.
            Err(Error::Refused(why)) => tracing::info!(replay = id, why, "a replay is left"),
            Err(error) => {
                let failed = failures.entry(id).or_default();
                *failed += 1;
                let error = &error as &dyn std::error::Error;
                tracing::error!(
                    replay = id,
                    failed,
                    error,
                    "a replay failed; it goes on where it was, ten times at most"
                );
            }
        }
    }
    Ok(())
}
