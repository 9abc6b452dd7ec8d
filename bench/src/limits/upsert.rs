//! The effects of an inbox, alone.

use std::time::Instant;

use anyhow::Result;
use sqlx::{Connection as _, PgConnection};

use super::produce::per_second;
use crate::{ground::Scene, outbox::workload};

/// Events a transaction.
const BATCH: u64 = 500;

/// Events a second of one connection that counts events by key with one prepared upsert each, 500 a transaction: no Kafka, no
/// cursors.
pub(crate) async fn upsert(scene: &Scene, events: u64, keys: i64) -> Result<f64> {
    let mut connection = PgConnection::connect(scene.url()).await?;
    let started = Instant::now();
    let mut n = 0;
    while n < events {
        let mut tx = connection.begin().await?;
        for _ in 0..BATCH.min(events - n) {
            sqlx::query(UPSERT).bind(workload::account(n, keys).to_string()).execute(&mut *tx).await?;
            n += 1;
        }
        tx.commit().await?;
    }
    let seconds = started.elapsed().as_secs_f64();
    connection.close().await?;
    Ok(per_second(events, seconds))
}

/// The effect: one more event of this key.
pub(crate) const UPSERT: &str = "insert into bench.counter as c (key, n) values ($1, 1)
    on conflict (key) do update set n = c.n + 1";
