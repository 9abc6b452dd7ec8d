//! Customers: as many orders as can be under way at once, or orders on a schedule.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use serde_json::json;
use sqlx::PgPool;
use tests::load::{Client, Product};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{database, shop::Side};

/// How often the orders under way are looked at, by their primary keys.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long the last orders may take to be paid once no more are placed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Requests of an open loop that may be open at once; when all are, the next are late, and that counts.
const OPEN_MAX: usize = 64;

/// Places one order with a card that is charged at once.
pub(crate) async fn place(client: &Client, product: &Product) -> Result<Uuid> {
    let body = json!({
        "lines": [{ "product_id": product.id, "quantity": 1 }],
        "currency": product.price.currency,
        "payment_method": "pm_card_visa",
        "capture_method": "automatic",
    });
    let answer = client.post("/v1/orders", &Uuid::now_v7().to_string(), &body).await?;
    ensure!(answer.status == 201, "POST /v1/orders: {} {}", answer.status, answer.body);
    answer.text("id").parse().context("an order without an id")
}

/// A loop that keeps a number of orders under way: the next one is placed when one is paid.
pub(super) struct Closed {
    paid: Arc<AtomicU64>,
    stop: CancellationToken,
    tasks: JoinSet<Result<()>>,
}

impl Closed {
    pub(super) fn start(side: &Side<'_>, at_once: u32) -> Self {
        let (free, stop) = (Arc::new(Semaphore::new(at_once as usize)), CancellationToken::new());
        let (paid, open) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(HashSet::new())));
        let mut tasks = JoinSet::new();
        for _ in 0..at_once {
            let (client, product) = (side.client.clone(), side.product.clone());
            let (free, open, stop) = (free.clone(), open.clone(), stop.clone());
            tasks.spawn(async move {
                loop {
                    let permit = tokio::select! {
                        () = stop.cancelled() => return Ok(()),
                        permit = free.acquire() => permit?,
                    };
                    let order = place(&client, &product).await?;
                    lock(&open).insert(order);
                    permit.forget();
                }
            });
        }
        tasks.spawn(watch(side.shop.source.clone(), open, free, at_once, paid.clone(), stop.clone()));
        Self { paid, stop, tasks }
    }

    /// Orders that were seen paid so far.
    pub(super) fn paid(&self) -> u64 {
        self.paid.load(Ordering::Relaxed)
    }

    /// Fails when a customer has failed.
    pub(super) fn check(&mut self) -> Result<()> {
        match self.tasks.try_join_next() {
            None => Ok(()),
            Some(ended) => {
                ended??;
                bail!("a customer left before the end")
            }
        }
    }

    /// Places no more, and waits until all that were placed are paid.
    pub(super) async fn stop(mut self) -> Result<()> {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        Ok(())
    }
}

/// Frees a place for each order that is paid. Ends when it is told to and none is open.
async fn watch(
    pool: PgPool,
    open: Arc<Mutex<HashSet<Uuid>>>,
    free: Arc<Semaphore>,
    at_once: u32,
    paid: Arc<AtomicU64>,
    stop: CancellationToken,
) -> Result<()> {
    let mut stopped_at = None;
    loop {
        let asked: Vec<Uuid> = lock(&open).iter().copied().collect();
        let done = database::paid_of(&pool, &asked).await?;
        paid.fetch_add(done.len() as u64, Ordering::Relaxed);
        free.add_permits(done.len());
        {
            let mut open = lock(&open);
            open.retain(|order| !done.contains(order));
        }
        if stop.is_cancelled() {
            // A customer that is still placing holds a permit.
            if free.available_permits() == at_once as usize {
                return Ok(());
            }
            let left = lock(&open).len();
            let since = *stopped_at.get_or_insert_with(Instant::now);
            ensure!(since.elapsed() < PATIENCE, "{left} orders were not paid in {} s", PATIENCE.as_secs());
        }
        sleep(LOOK_EVERY).await;
    }
}

fn lock(open: &Mutex<HashSet<Uuid>>) -> MutexGuard<'_, HashSet<Uuid>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What an open loop placed.
pub(super) struct Placed {
    pub(super) orders: Vec<Uuid>,
    /// Microseconds from when an order was due until its acceptance was heard.
    pub(super) accepted: Histogram<u64>,
}

/// Places orders at an even rate, however long one takes, and waits until all are paid.
pub(super) async fn open_loop(side: &Side<'_>, rate: f64, seconds: u64) -> Result<Placed> {
    let next = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let until = started + Duration::from_secs(seconds);
    let mut tasks = JoinSet::new();
    for _ in 0..OPEN_MAX {
        let (client, product, next) = (side.client.clone(), side.product.clone(), next.clone());
        tasks.spawn(async move {
            let mut placed = Placed { orders: Vec::new(), accepted: Histogram::new(3)? };
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are far below 2^53")]
                let due = started + Duration::from_secs_f64(n as f64 / rate);
                if due >= until {
                    return anyhow::Ok(placed);
                }
                sleep_until(due.into()).await;
                placed.orders.push(place(&client, &product).await?);
                placed.accepted.record(u64::try_from(due.elapsed().as_micros())?)?;
            }
        });
    }
    let mut all = Placed { orders: Vec::new(), accepted: Histogram::new(3)? };
    while let Some(ended) = tasks.join_next().await {
        let placed = ended??;
        all.orders.extend(placed.orders);
        all.accepted.add(&placed.accepted)?;
    }
    ensure!(!all.orders.is_empty(), "no order was placed: there is nothing to measure");
    let last = Instant::now();
    while database::paid_of(&side.shop.source, &all.orders).await?.len() < all.orders.len() {
        ensure!(last.elapsed() < PATIENCE, "not all orders were paid in {} s", PATIENCE.as_secs());
        sleep(LOOK_EVERY * 5).await;
    }
    Ok(all)
}
