//! What only replicas ask: cursors that leap to a snapshot, heads that follow, and what was applied as which version.

use std::time::Duration;

use sqlx::{PgConnection, postgres::PgTransaction, types::Json};
use uuid::Uuid;

use super::lease::interval;
use crate::envelope::Envelope;

/// What became of a cursor that a snapshot was to move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leap {
    /// It is there or beyond: it did not move.
    Passed,
    /// An operator put something else in the snapshot's place.
    Replaced,
    /// Something of the key is kept: it was passed over, or comes next.
    Waits,
    /// Nothing is.
    Free,
}

pub(crate) async fn leap(tx: &mut PgTransaction<'_>, handler: &str, event: &Envelope) -> sqlx::Result<Leap> {
    let leap: String = sqlx::query_scalar("select outbox.leap($1, $2, $3, $4, $5, $6, $7)")
        .bind(handler)
        .bind(&event.topic)
        .bind(&event.key)
        .bind(event.version)
        .bind(event.id)
        .bind(&event.payload)
        .bind(Json(&event.headers))
        .fetch_one(&mut **tx)
        .await?;
    match leap.as_str() {
        "passed" => Ok(Leap::Passed),
        "replaced" => Ok(Leap::Replaced),
        "waits" => Ok(Leap::Waits),
        "free" => Ok(Leap::Free),
        other => Err(sqlx::Error::Decode(format!("outbox.leap answered {other}").into())),
    }
}

pub(crate) async fn await_snapshot(
    db: &mut PgConnection,
    handler: &str,
    event: &Envelope,
) -> sqlx::Result<bool> {
    sqlx::query_scalar("select outbox.await_snapshot($1, $2, $3)")
        .bind(handler)
        .bind(&event.topic)
        .bind(&event.key)
        .fetch_one(db)
        .await
}

pub(crate) async fn skipped(tx: &mut PgTransaction<'_>, handler: &str, event: &Envelope) -> sqlx::Result<()> {
    sqlx::query("select outbox.skipped($1, $2, $3, $4)")
        .bind(handler)
        .bind(&event.topic)
        .bind(&event.key)
        .bind(event.version)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// The head follows a foreign event that was applied. False when this home wrote that version itself.
pub(crate) async fn follow_applied(
    tx: &mut PgTransaction<'_>,
    handler: &str,
    event: &Envelope,
) -> sqlx::Result<bool> {
    sqlx::query_scalar("select outbox.follow_applied($1, $2, $3, $4, $5)")
        .bind(handler)
        .bind(&event.topic)
        .bind(&event.key)
        .bind(event.version)
        .bind(event.id)
        .fetch_one(&mut **tx)
        .await
}

/// Those of the snapshots, by their places in the slice, that moved their cursors.
pub(crate) async fn leap_all(
    tx: &mut PgTransaction<'_>,
    handler: &str,
    topic: &str,
    snapshots: &[&Envelope],
) -> sqlx::Result<Vec<usize>> {
    let leapt: Vec<i32> = sqlx::query_scalar("select outbox.leap_all($1, $2, $3, $4, $5)")
        .bind(handler)
        .bind(topic)
        .bind(snapshots.iter().map(|event| event.key.as_str()).collect::<Vec<_>>())
        .bind(snapshots.iter().map(|event| event.version).collect::<Vec<_>>())
        .bind(snapshots.iter().map(|event| event.id).collect::<Vec<_>>())
        .fetch_all(&mut **tx)
        .await?;
    Ok(leapt.into_iter().filter_map(|n| usize::try_from(n - 1).ok()).collect())
}

/// As [`follow_applied`] for snapshots of many keys: those of which it is false.
pub(crate) async fn follow_all_applied(
    tx: &mut PgTransaction<'_>,
    handler: &str,
    topic: &str,
    applied: &[&Envelope],
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar("select outbox.follow_all_applied($1, $2, $3, $4, $5)")
        .bind(handler)
        .bind(topic)
        .bind(applied.iter().map(|event| event.key.as_str()).collect::<Vec<_>>())
        .bind(applied.iter().map(|event| event.version).collect::<Vec<_>>())
        .bind(applied.iter().map(|event| event.id).collect::<Vec<_>>())
        .fetch_all(&mut **tx)
        .await
}

/// The other id that was applied as this version, if it is remembered.
pub(crate) async fn applied_as(
    tx: &mut PgTransaction<'_>,
    handler: &str,
    event: &Envelope,
) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar("select outbox.applied_as($1, $2, $3, $4, $5)")
        .bind(handler)
        .bind(&event.topic)
        .bind(&event.key)
        .bind(event.version)
        .bind(event.id)
        .fetch_one(&mut **tx)
        .await
}

/// How many notes of a replica were forgotten.
pub(crate) async fn forget_applied(
    db: &mut PgConnection,
    handler: &str,
    keep: Duration,
    batch_max: i32,
) -> sqlx::Result<i32> {
    sqlx::query_scalar("select outbox.forget_applied($1, $2, $3)")
        .bind(handler)
        .bind(interval(keep))
        .bind(batch_max)
        .fetch_one(db)
        .await
}
