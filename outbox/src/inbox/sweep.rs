//! What an inbox does beside reading: parked events whose time is up, notes, and the comparison with the heads.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{
    Gate, InboxOptions, Kind, compare::compare_until, consumer::ending, patience::Patience,
    start::check_company, verdict::chain,
};
use crate::{Error, Source, database::Database, store};

/// Rows of old notes deleted in one statement.
const FORGET_MAX: i32 = 1_000;

/// Notes where the group reads, and tries parked events again, each handler's beside the others': one that is slow, or that no
/// database can serve, holds up its own keys only.
pub(super) async fn sweep<S: Source>(
    database: &Database,
    source: &S,
    gates: &[Arc<Gate>],
    options: &InboxOptions,
    stop: CancellationToken,
) -> Result<(), Error> {
    let retrying = join_all(gates.iter().map(|gate| ending(retry(gate, options, &stop), &stop)));
    let noting = note(database, source, options, &stop);
    let (noted, retried) = tokio::join!(ending(noting, &stop), retrying);
    retried.into_iter().fold(noted, Result::and)
}

async fn note<S: Source>(
    database: &Database,
    source: &S,
    options: &InboxOptions,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let patience = Patience::new(options, stop.clone());
    while ticked(options.sweep_every, stop).await {
        // Only now: a note without a position in the log would be a loss at the next start.
        for place in source.noted() {
            let (topic, partition) = (place.topic.name(), place.partition);
            let note = async || {
                database.with(async |db| store::subscribe(db, source.group(), topic, partition).await).await
            };
            patience.until(note).await?;
        }
    }
    Ok(())
}

/// Tries one handler's parked events again whose time is up, one at a time.
async fn retry(gate: &Gate, options: &InboxOptions, stop: &CancellationToken) -> Result<(), Error> {
    let patience = Patience::new(options, stop.clone());
    while ticked(options.sweep_every, stop).await {
        let due = async || {
            gate.database.with(async |db| store::due(db, gate.name(), options.sweep_max).await).await
        };
        for (topic, key) in patience.until(due).await?.unwrap_or_default() {
            if stop.is_cancelled() {
                return Ok(());
            }
            let drain = async || gate.drain(&topic, &key).await;
            patience.until(drain).await?;
        }
    }
    Ok(())
}

/// Asks the log for what keys miss. Beside the sweep, and each handler's beside the others': a log that does not answer holds
/// up nobody.
pub(super) async fn refill(
    gates: &[Arc<Gate>],
    options: &InboxOptions,
    stop: CancellationToken,
) -> Result<(), Error> {
    let filling = gates.iter().map(|gate| ending(fill(gate, options, &stop), &stop));
    join_all(filling).await.into_iter().fold(Ok(()), Result::and)
}

/// Asks the log for what one handler's keys miss, every `refill.every`.
async fn fill(gate: &Gate, options: &InboxOptions, stop: &CancellationToken) -> Result<(), Error> {
    let patience = Patience::new(options, stop.clone());
    while ticked(options.refill.every, stop).await {
        let refill = async || gate.refill(stop).await;
        patience.until(refill).await?;
    }
    Ok(())
}

/// Compares cursors with the heads of this database, a page at a time, and forgets old notes, every `compare_every`.
pub(super) async fn compare<S: Source>(
    source: &S,
    gates: &[Arc<Gate>],
    options: &InboxOptions,
    stop: CancellationToken,
) -> Result<(), Error> {
    while ticked(options.compare_every, &stop).await {
        for gate in gates {
            if let Err(error) = check_company(source, gate).await {
                tracing::warn!(
                    handler = gate.name(),
                    error = chain(&error),
                    "the group's handlers were not compared"
                );
            }
            if let Err(error) = compare_all(gate, options, &stop).await {
                tracing::warn!(handler = gate.name(), error = chain(&error), "cursors were not compared");
            }
            if matches!(gate.kind, Kind::Replica { .. })
                && let Err(error) = forget(gate, options, &stop).await
            {
                tracing::warn!(handler = gate.name(), error = chain(&error), "old notes were not forgotten");
            }
        }
        tracing::debug!(group = source.group(), "cursors were compared with heads");
    }
    Ok(())
}

async fn compare_all(gate: &Gate, options: &InboxOptions, stop: &CancellationToken) -> Result<(), Error> {
    let at = (gate.name(), gate.topic().name());
    let behind = compare_until(&gate.database, at, (options.tail_after, options.compare_max), stop).await?;
    if let Some(first) = behind.first() {
        tracing::error!(
            handler = gate.name(),
            topic = gate.topic().name(),
            keys_at_least = behind.len(),
            key = first.key,
            head = first.head,
            applied = first.applied,
            "events that were delivered long ago have not arrived: the log lost its tail, or the handler is that far behind"
        );
    }
    Ok(())
}

async fn forget(gate: &Gate, options: &InboxOptions, stop: &CancellationToken) -> Result<(), Error> {
    let mut forgotten = FORGET_MAX;
    while !stop.is_cancelled() && forgotten == FORGET_MAX {
        let asked = gate
            .database
            .with(async |db| store::forget_applied(db, gate.name(), options.remember_for, FORGET_MAX).await);
        forgotten = asked.await?;
    }
    Ok(())
}

/// Waits for the next time; false when the stop came first.
async fn ticked(every: Duration, stop: &CancellationToken) -> bool {
    let mut clock = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::select! {
        () = stop.cancelled() => false,
        _ = clock.tick() => true,
    }
}
