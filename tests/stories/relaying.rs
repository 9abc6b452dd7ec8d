//! The relays of the shop: they say what is in their way, keep house under a role of its own, and are woken by commits.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use outbox::kafka::create_topics;
use proto::{ORDERS, PAYMENTS};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool};
use tests::checker::Ended;
use tests::kafka::Kafka;
use tests::{Binaries, Shop, Side, Spec, World, story, until};
use url::Url;

use crate::orders::{order, place};

const SOON: Duration = Duration::from_secs(30);
/// Longer than any story: whoever waits for it waits for ever.
const NEXT_LOOK: &str = "10m";
const SETTLED: Duration = Duration::from_secs(90);

fn with(mut spec: Spec, name: &str, value: &str) -> Spec {
    spec.env.retain(|(known, _)| known != name);
    spec.env.push((name.to_owned(), value.to_owned()));
    spec
}

/// What `/readyz` says: whether it is ready, and the reasons if it is not.
async fn readiness(admin: &str) -> Result<(bool, String)> {
    let answer = reqwest::get(format!("http://{admin}/readyz")).await?;
    let ready = answer.status().is_success();
    let body: Value = answer.json().await?;
    let failed = body.get("failed").and_then(Value::as_array).context("no list of failed checks")?;
    let reasons = failed.iter().filter(|check| check.get("check").is_some_and(|name| name == "relay"));
    let reasons = reasons.filter_map(|check| check.get("reason")?.as_str());
    Ok((ready, reasons.collect::<Vec<_>>().join("\n")))
}

/// Waits until the relay's readiness has these words in its reasons; without any, until the process is ready.
async fn until_said(world: &World, admin: &str, words: &[&str]) -> Result<()> {
    until(&format!("the relay to say {words:?}"), SOON, async || {
        world.all_alive().await?;
        let (ready, reasons) = readiness(admin).await?;
        ensure!(ready == words.is_empty() && words.iter().all(|word| reasons.contains(word)), "{reasons}");
        Ok(Some(()))
    })
    .await
}

async fn start(world: &World, spec: Spec) -> Result<String> {
    let admin = world.start(spec).await?.get("admin").context("it names no admin address")?;
    Ok(admin.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_names_the_topics_that_are_missing_and_is_ready_once_they_are_there() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        shop.migrate(&[]).await?;
        let specs = [shop.running_monolith("relay", "relay"), shop.running_service("service", "relay")];
        for (spec, topics) in specs.into_iter().zip([vec![ORDERS, PAYMENTS], vec![PAYMENTS]]) {
            let prefix = format!("{}{}-", world.kafka().prefix(), spec.name);
            let admin = start(world, with(spec, "KAFKA_TOPIC_PREFIX", &prefix)).await?;
            let missing: Vec<String> = topics
                .iter()
                .map(|it| it.name())
                .map(|it| format!("topic {it} can't be written to: {prefix}{it}"))
                .collect();
            until_said(world, &admin, &missing.iter().map(String::as_str).collect::<Vec<_>>()).await?;
            let elsewhere = Kafka::new(world.kafka().servers(), prefix).transport("tests");
            create_topics(&elsewhere, &topics, 1).await?;
            until_said(world, &admin, &[]).await?;
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_without_a_right_says_which_and_goes_on_once_it_has_it() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        shop.migrate(&[]).await?;
        let homes = [
            (Side::Source, &shop.source, shop.running_monolith("relay", "relay")),
            (Side::Target, &shop.target, shop.running_service("service", "relay")),
        ];
        for (side, database, spec) in homes {
            let relay = role(&shop, side, "outbox")?;
            let admin = start(world, spec).await?;
            until_said(world, &admin, &[]).await?;
            execute(database, format!("revoke select on outbox.pending from \"{relay}\"")).await?;
            until_said(world, &admin, &["permission denied", "pending"]).await?;
            execute(database, format!("grant select on outbox.pending to \"{relay}\"")).await?;
            until_said(world, &admin, &[]).await?;
        }
        Ok(())
    })
    .await;
}

fn role(shop: &Shop<'_>, side: Side, name: &str) -> Result<String> {
    let urls = shop.role_urls(side);
    let (_, url) = urls.iter().find(|(role, _)| role == name).with_context(|| format!("no role {name}"))?;
    Ok(Url::parse(url)?.username().to_owned())
}

async fn execute(pool: &PgPool, sql: String) -> Result<()> {
    sqlx::query(AssertSqlSafe(sql)).execute(pool).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn days_of_the_log_come_and_go_under_the_housekeepers_role() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        shop.migrate(&[]).await?;
        let mut wanted = Vec::new();
        for pool in [&shop.source, &shop.target] {
            execute(pool, format!("select outbox.make_partition('event', {TODAY} - 30)")).await?;
            let last = day(pool, 14).await?;
            execute(pool, format!("drop table outbox.{last}")).await?;
            wanted.push((day(pool, -30).await?, last));
        }
        shop.start_monolith("relay", "relay").await?;
        shop.start_service("service", "relay").await?;
        for ((side, pool), (old, last)) in
            [(Side::Source, &shop.source), (Side::Target, &shop.target)].into_iter().zip(wanted)
        {
            let housekeeper = role(&shop, side, "housekeeper")?;
            until("the days to be in order", SOON, async || {
                let days = days(pool).await?;
                let has = |name: &str| days.iter().any(|(day, _)| day == name);
                ensure!(!has(&old) && has(&last), "{side:?}: {days:?}");
                ensure!(days.iter().all(|(_, owner)| *owner == housekeeper), "{side:?}: {days:?}");
                Ok(Some(()))
            })
            .await?;
        }
        Ok(())
    })
    .await;
}

const TODAY: &str = "(clock_timestamp() at time zone 'UTC')::date";

/// The table of the day so many days from today.
async fn day(pool: &PgPool, ahead: i32) -> Result<String> {
    let sql = format!("select 'event_' || to_char({TODAY} + $1, 'YYYYMMDD')");
    Ok(sqlx::query_scalar(AssertSqlSafe(sql)).bind(ahead).fetch_one(pool).await?)
}

/// The log's days, each with its owner.
async fn days(pool: &PgPool) -> Result<Vec<(String, String)>> {
    let rows = sqlx::query_as(
        r"select c.relname::text, pg_get_userbyid(c.relowner)::text from pg_class c
          where c.relnamespace = 'outbox'::regnamespace and c.relkind = 'r' and c.relname ~ '^(event|sent)_\d{8}$'
          order by 1",
    );
    Ok(rows.fetch_all(pool).await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_committed_beside_a_relay_does_not_wait_for_its_next_look() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        shop.migrate(&["acme"]).await?;
        shop.start_provider(&[]).await?;
        let monolith = shop.running_monolith("monolith", "all");
        shop.start_ready(with(monolith, "MONOLITH_RELAY_POLL", NEXT_LOOK)).await?;
        let service = shop.running_service("payments-service", "all");
        shop.start_ready(with(service, "PAYMENTS_RELAY_POLL", NEXT_LOOK)).await?;
        let (client, operator) = (shop.client("acme")?, shop.operator()?);
        let body = order(&client, "pm_card_visa", "automatic").await?;

        // The order's commit tells of the request, and the outcome's of the capture.
        let first = place(&client, "first", &body, Ended::Paid).await?;
        until_captured(world, &first.payment, "monolith.payments").await?;
        operator.follow().await?;
        operator.ramp(100).await?;
        let second = place(&client, "second", &body, Ended::Paid).await?;
        until_captured(world, &second.payment, "payments-service").await?;

        // What handlers publish is found by looking: a relay that starts looks at once.
        world.stop("monolith").await?;
        shop.start_monolith("monolith", "all").await?;
        shop.settle(SETTLED).await?;
        let findings = shop.check(vec![first, second]).await?;
        assert!(findings.holds() && findings.paid == 2, "{findings}");
        Ok(())
    })
    .await;
}

/// Waits until the topic tells that a payment was captured, by this home.
async fn until_captured(world: &World, payment: &str, origin: &str) -> Result<()> {
    until(&format!("the topic to tell of the capture of {payment}"), SOON, async || {
        let records = world.kafka().read(PAYMENTS.name()).await?;
        let told = records.iter().any(|record| {
            record.key == payment && record.version() == 2 && record.header("banyan-origin") == origin
        });
        Ok(told.then_some(()))
    })
    .await
}
