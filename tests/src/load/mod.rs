//! Clients: an open loop that places orders at a fixed rate, whatever the answers are, and keeps what was acknowledged.

mod book;
mod client;
mod mix;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

pub use book::{Book, Tally};
pub use client::{Answer, Client, Product};
pub use mix::Scenario;

/// How long those that are under way may take to finish once no new ones start. The slowest card charges after ten
/// seconds and may have to be refunded afterwards.
const FINISH_TIMEOUT: Duration = Duration::from_secs(120);

/// What a load does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Orders per second.
    pub rate: u32,
    /// Clients at once; when all are busy an order is held back and counted.
    pub clients_max: usize,
}

impl Default for Plan {
    /// 25 orders a second from at most 400 clients.
    fn default() -> Self {
        Self { rate: 25, clients_max: 400 }
    }
}

/// A running load.
pub struct Load {
    stop: CancellationToken,
    running: JoinHandle<()>,
    book: Arc<Book>,
}

impl Load {
    /// Starts it; each client orders for one of the tenants in turn.
    ///
    /// # Errors
    /// When no tenant is given, one sells nothing, or the rate is zero.
    pub async fn start(plan: Plan, clients: Vec<Client>) -> Result<Self> {
        ensure!(plan.rate > 0 && !clients.is_empty(), "a load needs a rate and a tenant");
        let mut shops = Vec::new();
        for client in clients {
            let products = client.products().await?;
            ensure!(!products.is_empty(), "tenant {} sells nothing", client.tenant());
            shops.push(Arc::new((client, products)));
        }
        let (stop, book) = (CancellationToken::new(), Arc::new(Book::new()?));
        let running = tokio::spawn(run(plan, shops, Arc::clone(&book), stop.clone()));
        Ok(Self { stop, running, book })
    }

    /// What happened so far.
    pub fn book(&self) -> &Book {
        &self.book
    }

    /// Starts no more, and waits until those under way have finished.
    ///
    /// # Errors
    /// When they don't in time.
    pub async fn stop(self) -> Result<Tally> {
        self.stop.cancel();
        match tokio::time::timeout(FINISH_TIMEOUT, self.running).await {
            Ok(ended) => ended?,
            Err(_) => bail!("the load's clients did not finish within {} s", FINISH_TIMEOUT.as_secs()),
        }
        Ok(self.book.close())
    }
}

type Shop = Arc<(Client, Vec<Product>)>;

async fn run(plan: Plan, shops: Vec<Shop>, book: Arc<Book>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / plan.rate);
    // An open loop: what the system made us miss is made up for.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let free = Arc::new(Semaphore::new(plan.clients_max));
    let mut clients = JoinSet::new();
    for shop in shops.iter().cycle() {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = ticks.tick() => {}
        }
        while let Some(ended) = clients.try_join_next() {
            book.ended(ended);
        }
        let Ok(permit) = Arc::clone(&free).try_acquire_owned() else {
            book.held_back();
            continue;
        };
        let (shop, book) = (Arc::clone(shop), Arc::clone(&book));
        clients.spawn(async move {
            let (client, products) = &*shop;
            mix::shop(client, products, Scenario::random(), &book).await;
            drop(permit);
        });
    }
    while let Some(ended) = clients.join_next().await {
        book.ended(ended);
    }
}
