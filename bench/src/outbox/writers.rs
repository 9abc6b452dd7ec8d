//! Clients that book: as fast as they can, or on a schedule.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::{task::JoinSet, time::sleep_until};

use super::workload;
use crate::{
    ground::Scene,
    limits::{Direct, per_second},
};

/// Transactions of an open loop that may be open at once; when all are, the next are late, and that counts.
const OPEN_MAX: u32 = 16;

/// A booking that was due, and committed.
pub(crate) struct Commit {
    pub(crate) account: i64,
    pub(crate) version: i64,
    pub(crate) due: Instant,
    pub(crate) committed: Instant,
}

/// Books with `clients` as fast as they can; answers commits a second.
pub(crate) async fn closed_loop(scene: &Scene, clients: u32, seconds: u64, keys: i64) -> Result<f64> {
    let next = Arc::new(AtomicU64::new(1_000_000_000));
    let started = Instant::now();
    let until = started + Duration::from_secs(seconds);
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let (pool, insert, next) = (scene.pool.clone(), scene.contender.insert(), next.clone());
        tasks.spawn(async move {
            let mut commits = 0u64;
            while Instant::now() < until {
                let n = next.fetch_add(1, Ordering::Relaxed);
                workload::book(&pool, insert, workload::account(n, keys)).await?;
                commits += 1;
            }
            anyhow::Ok(commits)
        });
    }
    let mut commits = 0;
    while let Some(done) = tasks.join_next().await {
        commits += done??;
    }
    Ok(per_second(commits, started.elapsed().as_secs_f64()))
}

/// Books `rate` times a second at evenly spaced times, however long a booking takes. With `direct`, each is sent once it is
/// committed.
pub(crate) async fn open_loop(
    scene: &Scene,
    rate: f64,
    seconds: u64,
    keys: i64,
    direct: Option<&Direct>,
) -> Result<Vec<Commit>> {
    let next = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let until = started + Duration::from_secs(seconds);
    let mut tasks = JoinSet::new();
    for _ in 0..OPEN_MAX {
        let (pool, insert, next) = (scene.pool.clone(), scene.contender.insert(), next.clone());
        let direct = direct.cloned();
        tasks.spawn(async move {
            let mut commits = Vec::new();
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are far below 2^53")]
                let due = started + Duration::from_secs_f64(n as f64 / rate);
                if due >= until {
                    return anyhow::Ok(commits);
                }
                sleep_until(due.into()).await;
                let account = workload::account(n, keys);
                let version = workload::book(&pool, insert, account).await?;
                commits.push(Commit { account, version, due, committed: Instant::now() });
                if let Some(direct) = &direct {
                    direct.send(account, version)?;
                }
            }
        });
    }
    let mut commits = Vec::new();
    while let Some(done) = tasks.join_next().await {
        commits.extend(done??);
    }
    Ok(commits)
}
