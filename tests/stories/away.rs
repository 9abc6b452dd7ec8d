//! The provider is away: orders are taken, commands wait, and it is not asked time and again. Once it is back, all of that has its
//! outcome within a minute, in both homes.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chassis::listening::Listening;
use futures::future::try_join_all;
use serde_json::{Value, json};
use sqlx::PgPool;
use tests::checker::{Accepted, Ended};
use tests::load::Client;
use tests::{Binaries, Shop, Side, story, until};

use crate::migration::{born_at, until_status};
use crate::orders::{order, place};
use crate::telemetry::{scrape, sum};

const SOON: Duration = Duration::from_secs(60);
/// P8: every unknown outcome is resolved within 60 s of the provider being back.
const BOUND: Duration = Duration::from_secs(60);
/// Orders at once, and payments for each kind of command. Ten requests in a row without an answer open the circuit.
const EACH: usize = 8;
/// What the owner shows while the provider is away: a number, a label of it, and what it is above.
const SHOWN: [(&str, &str, f64); 6] = [
    ("payments_commands", "", 0.0),
    ("payments_provider_circuit", "", 1.0),
    ("payments_provider_held_back_total", "", 0.0),
    ("payments_open_intents", "state=\"unknown\"", 0.0),
    ("payments_oldest_open_age_seconds", "", 0.0),
    ("payments_oldest_unknown_age_seconds", "", 0.0),
];

/// The home whose provider is away.
struct Home<'a> {
    pool: &'a PgPool,
    listening: Listening,
}

impl<'a> Home<'a> {
    async fn of(shop: &'a Shop<'a>, side: Side) -> Result<Self> {
        let (process, pool) = match side {
            Side::Source => ("monolith", &shop.source),
            Side::Target => ("payments-service", &shop.target),
        };
        let mut processes = shop.world.processes().await.into_iter();
        let found = processes.find(|(name, ..)| name == process);
        let (_, listening, _) = found.with_context(|| format!("no process {process} runs"))?;
        Ok(Self { pool, listening })
    }

    /// Commands without an outcome, payments that were captured, and those that were refunded in part.
    async fn counts(&self) -> Result<(i64, i64, i64)> {
        let sql = "select (select count(*) from payments.intent where state <> 'done'),
                   (select count(*) from payments.payment where status = 'captured'),
                   (select count(*) from payments.payment where refunded_minor > 0)";
        Ok(sqlx::query_as(sql).fetch_one(self.pool).await?)
    }

    /// Waits until each of these was shown, one after the other or together.
    async fn shows(&self, numbers: &[(&str, &str, f64)]) -> Result<()> {
        let mut missing = numbers.to_vec();
        until("the numbers to tell of it", SOON, async || {
            let text = scrape(&self.listening).await?;
            missing.retain(|(name, label, above)| !sum(&text, name, label).is_ok_and(|value| value > *above));
            ensure!(missing.is_empty(), "not shown: {missing:?}");
            Ok(Some(()))
        })
        .await
    }

    /// One refund gets so old that the provider has forgotten its key, and young again: once the provider is back, a person would
    /// have to decide. No engine has it meanwhile.
    async fn shows_an_expired_one(&self) -> Result<()> {
        let aged = "update payments.intent
            set created_at = created_at - interval '25 hours', claimed_until = now() + interval '5 minutes'
            where command_id = (select command_id from payments.intent
                                where operation = 'refund' and state = 'unknown' and claimed_until <= now()
                                limit 1 for update skip locked)
            returning command_id::text";
        let command: String = until("a refund that nobody has", SOON, async || {
            Ok(sqlx::query_scalar(aged).fetch_optional(self.pool).await?)
        })
        .await?;
        self.shows(&[("payments_open_intents", "state=\"expired\"", 0.0)]).await?;
        let young = "update payments.intent
            set created_at = created_at + interval '25 hours', claimed_until = now(), next_at = now()
            where command_id = $1::uuid";
        sqlx::query(young).bind(command).execute(self.pool).await?;
        Ok(())
    }

    /// All that is open but refunds gets so old that its key counts as forgotten, and stays so: it waits for nobody. (The stand-in
    /// remembers; `resolve` of payments' tests has a provider that forgets.)
    async fn ages(&self) -> Result<()> {
        let sql = "update payments.intent set created_at = created_at - interval '25 hours'
                   where operation <> 'refund' and state <> 'done'";
        let aged = sqlx::query(sql).execute(self.pool).await?.rows_affected();
        ensure!(aged > 0, "nothing was open");
        Ok(())
    }
}

/// Places some orders at once, each to be paid.
async fn place_some(client: &Client, word: &str, body: &Value) -> Result<Vec<Accepted>> {
    let orders = (0..EACH).map(|n| async move {
        let key = format!("{word}-{n}");
        place(client, &key, body, Ended::Paid).await
    });
    try_join_all(orders).await
}

/// Gives a command once: the answer's status, and whether its outcome is pending.
async fn command(client: &Client, payment: &str, verb: &str, body: &Value) -> Result<(u16, Value)> {
    let (path, key) = (format!("/v1/payments/{payment}/{verb}"), format!("{verb}-{payment}"));
    let answer = client.post(&path, &key, body).await?;
    Ok((answer.status, answer.body["outcome_pending"].clone()))
}

/// Refunds a part of some payments and captures others, all at once; each is to be answered like this.
async fn commands(
    client: &Client,
    (refunded, captured): (&[Accepted], &[Accepted]),
    wanted: (u16, Value),
) -> Result<()> {
    let (part, whole) = (json!({ "amount_minor": 1 }), json!({}));
    let refunds = refunded.iter().map(|it| command(client, &it.payment, "refunds", &part));
    let captures = captured.iter().map(|it| command(client, &it.payment, "capture", &whole));
    let (refunds, captures) = tokio::try_join!(try_join_all(refunds), try_join_all(captures))?;
    for answer in refunds.into_iter().chain(captures) {
        ensure!(answer == wanted, "answered {answer:?}, and not {wanted:?}");
    }
    Ok(())
}

async fn comes_back(side: Side) {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        // Slow enough to die with requests under way.
        shop.start_all(&["acme"], &[("PROVIDER_LATENCY", "200ms")]).await?;
        let client = shop.client("acme")?;
        let mut accepted: Vec<Accepted> = born_at(&shop, side, &client).await?.into_iter().collect();
        let home = Home::of(&shop, side).await?;
        let automatic = order(&client, "pm_card_visa", "automatic").await?;
        let manual = order(&client, "pm_card_visa", "manual").await?;
        let refunded = place_some(&client, "to-refund", &automatic).await?;
        let captured = place_some(&client, "to-capture", &manual).await?;
        for (prepared, status) in [(&refunded, "captured"), (&captured, "authorized")] {
            for it in prepared {
                until_status(&client, &it.payment, status).await?;
            }
        }

        accepted.extend(place_some(&client, "under-way", &automatic).await?);
        until("charges to be under way", SOON, async || Ok((home.counts().await?.0 > 0).then_some(())))
            .await?;
        let provider = world.kill("provider").await?;
        accepted.extend(place_some(&client, "away", &automatic).await?);
        let all = (refunded.as_slice(), captured.as_slice());
        let stay_open = commands(&client, all, (202, json!(true)));
        tokio::try_join!(stay_open, home.shows(&SHOWN))?;
        home.shows_an_expired_one().await?;
        home.ages().await?;

        world.start(provider).await?;
        accepted.extend(refunded.iter().chain(&captured).cloned());
        let ends = (0, i64::try_from(accepted.len())?, i64::try_from(EACH)?);
        until("everything to have its outcome", BOUND, async || {
            let counts = home.counts().await?;
            ensure!(counts == ends, "(open, captured, refunded) are {counts:?}, and not {ends:?}");
            Ok(Some(()))
        })
        .await?;
        commands(&client, all, (200, json!(false))).await.context("each key has its answer now")?;
        until("the circuit to be closed", SOON, async || {
            let text = scrape(&home.listening).await?;
            let closed = sum(&text, "payments_provider_circuit", "")? == 0.0;
            Ok((closed && sum(&text, "payments_open_intents", "")? == 0.0).then_some(()))
        })
        .await?;

        shop.settle(BOUND).await?;
        let findings = shop.check(accepted).await?;
        assert!(findings.holds(), "{findings}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_waits_for_the_provider_ends_within_a_minute_of_its_return() {
    comes_back(Side::Source).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_waits_for_the_provider_ends_within_a_minute_of_its_return_at_the_service() {
    comes_back(Side::Target).await;
}
