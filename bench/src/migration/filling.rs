//! A service that has lost its copies gets them again, while others order.

use std::time::Duration;

use ::tests::until;
use anyhow::{Result, ensure};
use serde_json::Value;

use super::{
    Options, customers, database,
    feeds::{self, Lag},
    field::Field,
    float,
};
use crate::payments::{checkpoint, now};

/// How long the service may take to have all its copies.
const FILLED: Duration = Duration::from_secs(600);

/// What a round of filling came to. Times are in milliseconds.
pub(super) struct Filled {
    /// Payments applied by the target a second, from the first to the last.
    pub(super) rate: f64,
    pub(super) keys: f64,
    /// From when an order was due until its acceptance was heard: before, meanwhile and afterwards.
    pub(super) before: Vec<f64>,
    pub(super) meanwhile: Vec<f64>,
    pub(super) after: Vec<f64>,
    /// Of the feed to the service: with orders alone, and while it was filled.
    pub(super) lag: Lag,
    pub(super) lag_meanwhile: Lag,
}

/// Orders alone, orders while the service is filled, orders alone again.
pub(super) async fn round(field: &Field<'_>, options: &Options) -> Result<Filled> {
    let shop = &field.shop;
    let window = Duration::from_secs(options.seconds);
    let alone = async || {
        checkpoint(&shop.source).await?;
        let heard = customers::order(field, options.rate, async {
            tokio::time::sleep(window).await;
            Ok(())
        });
        let heard = heard.await?;
        field.settle().await?;
        anyhow::Ok(heard)
    };
    let before = alone().await?;
    // Before the service forgets what it has applied.
    let lag = feeds::lag(&shop.source, &shop.target, before.window).await?;
    let service = shop.world.stop("payments-service").await?;
    shop.empty_replica().await?;
    shop.start_ready(service).await?;
    checkpoint(&shop.source).await?;
    let since = now(&shop.source).await?;
    let lacking = database::count_before(&shop.source, since).await?;
    field.operator.backfill_again().await?;
    let meanwhile = customers::order(field, options.rate, has(field, since, lacking)).await?;
    let (keys, seconds) = database::filled(&shop.target, since).await?;
    ensure!(keys >= lacking && seconds > 0.0, "{keys} of {lacking} payments were filled in {seconds} s");
    done(field).await?;
    field.settle().await?;
    let after = alone().await?;
    let lag_meanwhile = feeds::lag(&shop.source, &shop.target, meanwhile.window).await?;
    let keys = float(usize::try_from(keys)?);
    Ok(Filled {
        rate: keys / seconds,
        keys,
        before: before.accepted,
        meanwhile: meanwhile.accepted,
        after: after.accepted,
        lag,
        lag_meanwhile,
    })
}

/// Waits until the target has so many payments of before then.
async fn has(field: &Field<'_>, since: time::OffsetDateTime, lacking: i64) -> Result<()> {
    until("the service to have all copies", FILLED, async || {
        let there = database::count_before(&field.shop.target, since).await?;
        ensure!(there >= lacking, "it has {there} of {lacking}");
        Ok(Some(()))
    })
    .await
}

/// Waits until a walk has found that nothing is lacking.
async fn done(field: &Field<'_>) -> Result<()> {
    until("the backfill to be done", FILLED, async || {
        let status = field.operator.status().await?;
        let done = status.pointer("/backfill/done_at").is_some_and(Value::is_string);
        ensure!(done, "{}", status["backfill"]);
        Ok(Some(()))
    })
    .await
}
