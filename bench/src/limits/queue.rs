//! Reading the queue and deleting from it, alone.

use std::time::Instant;

use anyhow::{Result, ensure};
use sqlx::{Connection as _, PgConnection, Row as _};

use super::produce::per_second;
use crate::ground::Scene;

/// Rows of a page.
const PAGE: i64 = 1_000;

/// Buckets of the queue.
const BUCKETS: i16 = 64;

/// Events a second of one connection that reads the queue with its events in pages, bucket by bucket from the last position it
/// saw, and deletes each page before the next: no rule about keys, no broker, and as our relay no wait for the disk.
pub(crate) async fn read_and_delete(scene: &Scene, events: u64) -> Result<f64> {
    let mut connection = PgConnection::connect(scene.url()).await?;
    sqlx::query("set synchronous_commit = off").execute(&mut connection).await?;
    let started = Instant::now();
    let (mut taken, mut bytes) = (0, 0);
    for bucket in 0..BUCKETS {
        let mut last = 0;
        loop {
            let (positions, read) = page(&mut connection, bucket, last).await?;
            let Some(end) = positions.last() else { break };
            last = *end;
            taken += u64::try_from(positions.len())?;
            bytes += read;
            sqlx::query("delete from outbox.pending where bucket = $1 and position = any ($2)")
                .bind(bucket)
                .bind(&positions)
                .execute(&mut connection)
                .await?;
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    connection.close().await?;
    ensure!(taken == events && bytes > 0, "read {taken} of {events} events");
    Ok(per_second(events, seconds))
}

/// The positions of a page, and how many bytes its payloads have.
async fn page(connection: &mut PgConnection, bucket: i16, after: i64) -> Result<(Vec<i64>, usize)> {
    let rows = sqlx::query(
        "select p.position, e.id, e.created_at, e.topic, e.key, e.version, e.kind, e.origin, e.payload, e.headers
         from outbox.pending p
         join outbox.event e on e.position = p.position and e.created_at = p.created_at
         where p.bucket = $1 and p.position > $2
         order by p.position limit $3",
    )
    .bind(bucket)
    .bind(after)
    .bind(PAGE)
    .fetch_all(connection)
    .await?;
    let mut positions = Vec::with_capacity(rows.len());
    let mut bytes = 0;
    for row in rows {
        positions.push(row.try_get("position")?);
        bytes += row.try_get::<Vec<u8>, _>("payload")?.len();
    }
    Ok((positions, bytes))
}
