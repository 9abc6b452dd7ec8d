//! Those who order meanwhile: at an even rate, however long an order takes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use time::OffsetDateTime;
use tokio::{
    task::JoinSet,
    time::{sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::field::Field;
use crate::payments::{now, paid_of, place};

/// Requests that may be open at once; when all are, the next are late, and that counts.
const OPEN_MAX: usize = 64;

/// How long the last orders may take to be paid once no more are placed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks whether they are.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What they heard.
pub(super) struct Heard {
    /// Milliseconds from when each order was due until its acceptance was heard.
    pub(super) accepted: Vec<f64>,
    /// From when until when, by the clock of the monolith's database.
    pub(super) window: (OffsetDateTime, OffsetDateTime),
}

/// Orders while `meanwhile` lasts, then waits until all orders are paid.
pub(super) async fn order(
    field: &Field<'_>,
    rate: u32,
    meanwhile: impl Future<Output = Result<()>>,
) -> Result<Heard> {
    let since = now(&field.shop.source).await?;
    let (next, stop) = (Arc::new(AtomicU32::new(0)), CancellationToken::new());
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..OPEN_MAX {
        let (client, product) = (field.client.clone(), field.product.clone());
        let (next, stop) = (Arc::clone(&next), stop.clone());
        tasks.spawn(async move {
            let (mut orders, mut accepted) = (Vec::new(), Vec::new());
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                let due = started + Duration::from_secs_f64(f64::from(n) / f64::from(rate));
                tokio::select! {
                    () = stop.cancelled() => return anyhow::Ok((orders, accepted)),
                    () = sleep_until(due.into()) => {}
                }
                orders.push(place(&client, &product).await?);
                accepted.push(due.elapsed().as_secs_f64() * 1e3);
            }
        });
    }
    // A failure drops the tasks, which ends them.
    meanwhile.await?;
    stop.cancel();
    let (mut orders, mut accepted) = (Vec::new(), Vec::new());
    while let Some(ended) = tasks.join_next().await {
        let (placed, heard): (Vec<Uuid>, Vec<f64>) = ended??;
        orders.extend(placed);
        accepted.extend(heard);
    }
    ensure!(!orders.is_empty(), "no order was placed: there is nothing to measure");
    all_paid(field, &orders).await?;
    Ok(Heard { accepted, window: (since, now(&field.shop.source).await?) })
}

/// Waits until all of them are paid.
pub(super) async fn all_paid(field: &Field<'_>, orders: &[Uuid]) -> Result<()> {
    let began = Instant::now();
    loop {
        let left = orders.len() - paid_of(&field.shop.source, orders).await?.len();
        if left == 0 {
            return Ok(());
        }
        ensure!(began.elapsed() < PATIENCE, "{left} orders were not paid in {} s", PATIENCE.as_secs());
        sleep(LOOK_EVERY).await;
    }
}
