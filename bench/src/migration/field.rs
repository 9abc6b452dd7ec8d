//! The shop that is measured: the demo's processes, with payments that were ordered and paid before the migration began.

use std::time::Duration;

use ::tests::{
    Binaries, Operator, Shop, World,
    load::{Client, Product},
    until,
};
use anyhow::{Context, Result, ensure};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde_json::Value;
use stack::Stack;
use tokio::time::sleep;
use uuid::Uuid;

use super::{Options, customers, database, steps};
use crate::payments::place;

/// Whose customers order.
pub(super) const TENANT: &str = "acme";

/// Orders placed at the same time before the migration begins.
const AT_ONCE: usize = 64;

/// Orders that are placed before it is waited until they are paid.
const BATCH: u32 = 1_000;

/// Between two orders while the migration is walked: its gates want to see traffic.
const TRICKLE: Duration = Duration::from_millis(100);

/// How long all keys may take to change their home.
const MOVED: Duration = Duration::from_secs(600);

/// How long a shop may take to come to rest.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(180);

/// The shop, which runs all the time, and its keys.
pub(super) struct Field<'w> {
    pub(super) shop: Shop<'w>,
    pub(super) client: Client,
    pub(super) product: Product,
    pub(super) operator: Operator,
    /// The payments that were there before the migration began, in the order of their keys.
    pub(super) keys: Vec<Uuid>,
}

impl<'w> Field<'w> {
    /// Starts all processes, has the old payments ordered and paid, and enters `following`.
    pub(super) async fn open(world: &'w World, stack: &Stack, options: &Options) -> Result<Self> {
        let binaries = Binaries::beside().context("run `cargo xtask bench migration`, which builds them")?;
        let shop = Shop::open(world, stack, binaries).await?;
        shop.migrate(&[TENANT]).await?;
        steps::begin(&shop.source, &shop.target).await?;
        let latency = format!("{}ms", options.provider_ms);
        shop.start_provider(&[("PROVIDER_LATENCY", latency.as_str())]).await?;
        shop.start_monolith("monolith", "web,inbox,controller").await?;
        shop.start_monolith("relay", "relay").await?;
        shop.start_service("payments-service", "all").await?;
        let (client, operator) = (shop.client(TENANT)?, shop.operator()?);
        let product = client.products().await?.into_iter().next().context("nothing is on sale")?;
        let mut field = Self { shop, client, product, operator, keys: Vec::new() };
        field.fill(options.keys).await?;
        field.settle().await?;
        field.keys = database::payments(&field.shop.source).await?;
        ensure!(!field.keys.is_empty(), "no payment is captured: there is nothing to move");
        field.under_traffic(field.operator.follow()).await.context("enter following")?;
        Ok(field)
    }

    /// Real orders, one after the other, until there are so many payments.
    async fn fill(&self, keys: u32) -> Result<()> {
        let mut left = keys;
        while left > 0 {
            let batch = left.min(BATCH);
            let placed = stream::iter(0..batch).map(|_| place(&self.client, &self.product));
            let orders: Vec<Uuid> = placed.buffer_unordered(AT_ONCE).try_collect().await?;
            customers::all_paid(self, &orders).await?;
            left -= batch;
            eprintln!("{} of {keys} payments are there", keys - left);
        }
        Ok(())
    }

    /// Waits until nothing is under way.
    pub(super) async fn settle(&self) -> Result<()> {
        self.shop.settle(SETTLE_TIMEOUT).await
    }

    /// Does something while an order is placed and a payment is read now and then.
    pub(super) async fn under_traffic<T>(&self, what: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            done = what => done,
            failed = self.trickle() => Err(failed),
        }
    }

    /// Ends only when something is refused.
    async fn trickle(&self) -> anyhow::Error {
        let mut visits = 0;
        loop {
            if let Err(error) = self.visit(visits).await {
                return error.context("the traffic while the migration is walked");
            }
            visits += 1;
            sleep(TRICKLE).await;
        }
    }

    async fn visit(&self, n: usize) -> Result<()> {
        place(&self.client, &self.product).await?;
        if self.keys.is_empty() {
            return Ok(());
        }
        let key = self.keys.get(n % self.keys.len()).context("there is no payment")?;
        let answer = self.client.get(&format!("/v1/payments/{key}")).await?;
        ensure!(answer.status == 200, "GET /v1/payments/{key}: {} {}", answer.status, answer.body);
        Ok(())
    }

    /// So many payments from all over the keys; others for each `turn`.
    pub(super) fn some(&self, count: u32, turn: usize) -> Vec<Uuid> {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let apart = (self.keys.len() / count.max(1)).max(1);
        self.keys.iter().skip(turn % apart).step_by(apart).take(count).copied().collect()
    }

    /// Waits until every key is at one home, and both homes know it.
    pub(super) async fn all_at(&self, home: &str) -> Result<()> {
        let other = if home == "target" { "source" } else { "target" };
        until(&format!("every payment to be at the {home}"), MOVED, async || {
            self.shop.world.all_alive().await?;
            let status = self.operator.status().await?;
            let left: i64 =
                [other, "moving", "recalling", "granting"].iter().map(|place| count(&status, place)).sum();
            let draining = status.get("draining").and_then(Value::as_bool).unwrap_or(true);
            ensure!(left == 0 && !draining, "{} {}", status["keys"], status["pinned"]);
            Ok(Some(()))
        })
        .await
    }
}

/// How many keys a status counts in one place; at least one when it does not say.
fn count(status: &Value, place: &str) -> i64 {
    status.pointer(&format!("/keys/{place}")).and_then(Value::as_i64).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::count;

    #[test]
    fn a_place_that_a_status_does_not_count_is_not_taken_for_empty() {
        let status = json!({ "keys": { "source": 0, "target": 7 } });
        assert_eq!(["source", "target", "moving"].map(|place| count(&status, place)), [0, 7, 1]);
    }
}
