//! The topic has lost a record of the service's: whoever misses it at the source gets it from the service's own log.

use anyhow::{Result, ensure};
use serde_json::json;
use sqlx::PgPool;
use tests::load::Client;
use tests::{Binaries, Shop, story, until};

use super::{SETTLED, SOON};
use crate::handover::paid;

/// Who reads the stream of payments at the source: orders, receipts and the replica.
const READERS: i64 = 3;

/// The whole shop, with the service's relay in a process of its own.
async fn start(shop: &Shop<'_>) -> Result<()> {
    shop.migrate(&["acme", "globex"]).await?;
    shop.start_provider(&[]).await?;
    shop.start_monolith("monolith", "all").await?;
    shop.start_service("payments-service", "serve,inbox").await?;
    shop.start_service("service-relay", "relay").await?;
    Ok(())
}

async fn refund(client: &Client, payment: &str, key: &str) -> Result<()> {
    until(&format!("refund {key}"), SOON, async || {
        let path = format!("/v1/payments/{payment}/refunds");
        let answer = client.post(&path, key, &json!({ "amount_minor": 100 })).await?;
        ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
        Ok(Some(()))
    })
    .await
}

/// Lets a payment's last event pass for delivered, though no broker has it, and takes it out of the log. Returns its version.
async fn lose(target: &PgPool, payment: &str) -> Result<i64> {
    let sql = "select max(e.version) from outbox.event e where e.key = $1";
    let version: i64 = sqlx::query_scalar(sql).bind(payment).fetch_one(target).await?;
    let sql = "delete from outbox.pending p using outbox.event e
               where e.position = p.position and e.key = $1 and e.version = $2";
    let lost = sqlx::query(sql).bind(payment).bind(version).execute(target).await?.rows_affected();
    ensure!(lost == 1, "version {version} was delivered before");
    sqlx::raw_sql("create table public.kept (like outbox.event)").execute(target).await?;
    let sql = "with gone as (delete from outbox.event e where e.key = $1 and e.version = $2 returning e.*)
               insert into public.kept select * from gone";
    sqlx::query(sql).bind(payment).bind(version).execute(target).await?;
    Ok(version)
}

async fn put_back(target: &PgPool) -> Result<()> {
    let back = "insert into outbox.event select * from public.kept; drop table public.kept";
    sqlx::raw_sql(back).execute(target).await?;
    Ok(())
}

/// Waits until all readers wait for a version, for the reason that no log has it.
async fn until_all_wait(source: &PgPool, payment: &str, version: i64) -> Result<()> {
    until("all to say what they wait for", SOON, async || {
        let sql = "select coalesce(o.error, '') from outbox.overflow o where o.key = $1";
        let why: Vec<String> = sqlx::query_scalar(sql).bind(payment).fetch_all(source).await?;
        let reason = format!("the log has no delivered version {version}");
        let waiting = why.iter().filter(|why| **why == reason).count();
        ensure!(i64::try_from(waiting)? == READERS, "{why:?}");
        Ok(Some(()))
    })
    .await?;
    let sql = "select count(*) from outbox.parked p where p.key = $1 and p.version = $2";
    let parked: i64 = sqlx::query_scalar(sql).bind(payment).bind(version + 1).fetch_one(source).await?;
    ensure!(parked == READERS, "{parked} wait with the event behind it");
    Ok(())
}

/// Waits until all readers have applied a version.
async fn until_all_at(source: &PgPool, payment: &str, version: i64) -> Result<()> {
    until("all to have what was lost", SOON, async || {
        let sql = "select count(*) from outbox.cursor c where c.key = $1 and c.version = $2";
        let there: i64 = sqlx::query_scalar(sql).bind(payment).bind(version).fetch_one(source).await?;
        ensure!(there == READERS, "{there} of {READERS}");
        Ok(Some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_topic_has_lost_comes_from_the_services_log() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        start(&shop).await?;
        let (operator, client) = (shop.operator()?, shop.client("acme")?);
        paid(&client, "before", 20).await?;
        operator.follow().await?;
        operator.ramp(100).await?;
        let placed = paid(&client, "at-the-target", 2).await?;
        shop.settle(SETTLED).await?;
        let [payment, other] = [&placed[0].payment, &placed[1].payment];

        world.pause("service-relay").await?;
        refund(&client, payment, "lost").await?;
        let lost = lose(&shop.target, payment).await?;
        world.resume("service-relay").await?;
        refund(&client, payment, "behind-it").await?;
        until_all_wait(&shop.source, payment, lost).await?;
        // Others go on meanwhile, at both homes.
        refund(&client, other, "meanwhile").await?;
        until_all_at(&shop.source, other, lost).await?;

        put_back(&shop.target).await?;
        until_all_at(&shop.source, payment, lost + 1).await?;
        // Not for the checker: a consumer of the topic alone misses that record for good.
        shop.settle(SETTLED).await
    })
    .await;
}
