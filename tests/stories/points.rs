//! The process is aborted at every crash point of payments, in both homes, and started again: one charge, balanced books,
//! no unknown left. A point that is not reached fails the story.

use std::io::Write as _;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use payments::Point;
use serde_json::json;
use sqlx::PgPool;
use tests::checker::{Accepted, Ended};
use tests::load::Client;
use tests::{Binaries, Shop, Side, Spec, story, until};

use crate::migration::{born_at, until_status};
use crate::orders::{order, place};

const SIGABRT: i32 = 6;
/// Until a point is reached, from the start of the process; a group that lost a member may take some seconds to go on.
const REACHED: Duration = Duration::from_secs(60);
/// Until what was asked for has come to its end after the restart.
const SOON: Duration = Duration::from_secs(90);

/// Here a dead process's claim runs out by itself: the one that a command is committed with, and the resolver's.
const RUN_OUT: [(Point, Cause); 2] =
    [(Point::IntentCommitted, Cause::Refund), (Point::DueClaimed, Cause::Silence)];
/// A claim lasts 15 s, so an end before this did not wait for it.
const RUN_OUT_MIN: Duration = Duration::from_secs(5);

/// What makes the process reach a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// An order is paid at once.
    Charge,
    /// An order's money is reserved.
    Reserve,
    /// The first confirmation is lost, so that there is no answer, and the resolver takes it up.
    Silence,
    /// A merchant captures what was authorized before.
    Capture,
    /// A merchant refunds a part of what was captured before: a second one would fit too.
    Refund,
    /// A merchant voids what was authorized before.
    Void,
    /// A refund that the provider refuses.
    Refusal,
    /// A refund made at the provider, which reconciliation finds.
    Elsewhere,
    /// Answers that are older than they are kept for.
    OldAnswers,
}

/// A point and what leads there in a home.
#[derive(Clone, Copy, Debug)]
struct Case {
    point: Point,
    cause: Cause,
}

impl Case {
    fn runs_out(self) -> bool {
        RUN_OUT.contains(&(self.point, self.cause))
    }
}

/// Every point that a home has, by what leads to it. A caller's commands pass the same points as the engine's.
fn cases(side: Side) -> Vec<Case> {
    let mut cases = Vec::new();
    for point in Point::ALL {
        let causes: &[Cause] = match (point, side) {
            // The monolith has the edge; the service has no webhooks of its own.
            (Point::WebhookStored | Point::WebhookDelivered | Point::WebhookMarked, Side::Target) => &[],
            (Point::WebhookStored | Point::WebhookDelivered | Point::WebhookMarked, Side::Source)
            | (
                Point::RequestedClaimed | Point::ObjectMade | Point::ObjectCommitted | Point::ReplicaApplied,
                _,
            ) => &[Cause::Charge],
            (Point::IntentCommitted, _) => &[Cause::Charge, Cause::Refund],
            (Point::BeforeMove | Point::Answered | Point::OutcomeWritten, _) => {
                &[Cause::Charge, Cause::Reserve, Cause::Capture, Cause::Refund, Cause::Void]
            }
            (Point::OutcomeCommitted, _) => &[Cause::Charge, Cause::Refund],
            (Point::DueClaimed | Point::UnknownCommitted, _) => &[Cause::Silence],
            (Point::RefusalCommitted, _) => &[Cause::Refusal],
            (Point::AdjustmentWritten | Point::AdjustmentCommitted, _) => &[Cause::Elsewhere],
            (Point::AnswersForgotten, _) => &[Cause::OldAnswers],
        };
        cases.extend(causes.iter().map(|cause| Case { point, cause: *cause }));
    }
    cases
}

/// What a cause needs before the process is told where to die.
struct Prepared {
    accepted: Option<Accepted>,
}

struct Told<'a> {
    shop: &'a Shop<'a>,
    client: Client,
    side: Side,
}

impl Told<'_> {
    fn name(&self) -> &'static str {
        match self.side {
            Side::Source => "monolith",
            Side::Target => "payments-service",
        }
    }

    fn spec(&self, point: Option<Point>) -> Spec {
        let (mut spec, setting) = match self.side {
            Side::Source => (self.shop.running_monolith("monolith", "all"), "MONOLITH_CRASH_AT"),
            Side::Target => (self.shop.running_service("payments-service", "all"), "PAYMENTS_CRASH_AT"),
        };
        spec.env.push(("RECONCILE_EVERY".into(), "1s".into()));
        spec.env.push(("RECONCILE_LATE_AFTER".into(), "0s".into()));
        // It is its group's same member again, which need not wait until the dead one is missed.
        spec.env.push(("KAFKA_INSTANCE_ID".into(), self.name().into()));
        spec.env.extend(point.map(|point| (setting.to_owned(), point.name().to_owned())));
        spec
    }

    /// One point: prepare, start with it, cause it, see the process die of it, start again, and see the end.
    async fn tell(&self, n: usize, case: Case) -> Result<Accepted> {
        let prepared = self.prepare(n, case.cause).await?;
        self.shop.world.stop(self.name()).await?;
        // It may die before it is ready: what is left in the topic is enough for some points.
        self.shop.world.start(self.spec(Some(case.point))).await?;
        let dies = async {
            let status = self.shop.world.ended(self.name(), REACHED).await;
            let status = status.with_context(|| format!("{case:?} was not reached"))?;
            ensure!(status.signal() == Some(SIGABRT), "{case:?}: it ended otherwise: {status}");
            let died = Instant::now();
            // At every point it would be ten minutes of waiting.
            if !case.runs_out() {
                self.shop.free(self.side).await?;
            }
            self.shop.start_ready(self.spec(None)).await?;
            Ok(died)
        };
        let (accepted, died) = tokio::try_join!(self.cause(n, case.cause, prepared), dies)?;
        let waited = died.elapsed();
        ensure!(
            !case.runs_out() || waited > RUN_OUT_MIN,
            "{case:?}: it ended {waited:?} after the death, and did not wait for the dead one's claim"
        );
        Ok(accepted)
    }

    /// The database of the home that dies.
    fn home(&self) -> &PgPool {
        if self.side == Side::Source { &self.shop.source } else { &self.shop.target }
    }

    async fn prepare(&self, n: usize, cause: Cause) -> Result<Prepared> {
        let (card, capture_method, status, ends) = match cause {
            Cause::Charge | Cause::Reserve | Cause::Silence => return Ok(Prepared { accepted: None }),
            Cause::Capture => ("pm_card_visa", "manual", "authorized", Ended::Paid),
            Cause::Void => ("pm_card_visa", "manual", "authorized", Ended::Cancelled),
            Cause::Refund | Cause::Elsewhere | Cause::OldAnswers => {
                ("pm_card_visa", "automatic", "captured", Ended::Paid)
            }
            Cause::Refusal => ("pm_refund_declined", "automatic", "captured", Ended::Paid),
        };
        let body = order(&self.client, card, capture_method).await?;
        let accepted = place(&self.client, &format!("point-{n}"), &body, ends).await?;
        until_status(&self.client, &accepted.payment, status).await?;
        if cause == Cause::OldAnswers {
            self.command(&accepted.payment, "refunds", &json!({ "amount_minor": 1 })).await?;
            self.age(&accepted.payment).await?;
        }
        Ok(Prepared { accepted: Some(accepted) })
    }

    /// Makes a payment's answers older than they are kept for.
    async fn age(&self, payment: &str) -> Result<()> {
        let pool = self.home();
        let sql = "update payments.idempotency set created_at = created_at - interval '8 days' where payment_id = $1::uuid";
        let aged = sqlx::query(sql).bind(payment).execute(pool).await?.rows_affected();
        ensure!(aged > 0, "payment {payment} has no answer to forget");
        Ok(())
    }

    /// Asks until it is done, over the death of the process.
    async fn cause(&self, n: usize, cause: Cause, prepared: Prepared) -> Result<Accepted> {
        let Some(accepted) = prepared.accepted else {
            let card = if cause == Cause::Silence { "pm_not_charged_no_answer" } else { "pm_card_visa" };
            let reserve = cause == Cause::Reserve;
            let (method, ends) =
                if reserve { ("manual", Ended::Cancelled) } else { ("automatic", Ended::Paid) };
            let body =
                until("the products", SOON, async || Ok(Some(order(&self.client, card, method).await?)))
                    .await?;
            let accepted = place(&self.client, &format!("point-{n}"), &body, ends).await?;
            if reserve {
                self.until_end(&accepted.payment, "authorized").await?;
                self.command(&accepted.payment, "void", &json!({})).await?;
                self.until_end(&accepted.payment, "voided").await?;
            } else {
                self.until_end(&accepted.payment, "captured").await?;
            }
            return Ok(accepted);
        };
        let payment = accepted.payment.as_str();
        match cause {
            Cause::Charge | Cause::Reserve | Cause::Silence | Cause::OldAnswers => {}
            Cause::Capture => {
                self.command(payment, "capture", &json!({})).await?;
                self.until_end(payment, "captured").await?;
            }
            Cause::Void => {
                self.command(payment, "void", &json!({})).await?;
                self.until_end(payment, "voided").await?;
            }
            Cause::Refund => {
                self.command(payment, "refunds", &json!({ "amount_minor": 1 })).await?;
                self.until_end(payment, "captured").await?;
                let answer = self.client.get(&format!("/v1/payments/{payment}")).await?;
                ensure!(answer.body["refunded_minor"] == json!(1), "{}", answer.body);
            }
            Cause::Refusal => {
                self.command(payment, "refunds", &json!({})).await?;
                self.until_end(payment, "captured").await?;
            }
            Cause::Elsewhere => self.refunded_elsewhere(payment).await?,
        }
        Ok(accepted)
    }

    /// Somebody refunds one minor unit in the provider's own interface.
    async fn refunded_elsewhere(&self, payment: &str) -> Result<()> {
        let pool = self.home();
        let object: String =
            sqlx::query_scalar("select provider_ref from payments.payment where id = $1::uuid")
                .bind(payment)
                .fetch_one(pool)
                .await?;
        self.refund_at_the_provider(&object).await?;
        until("the books to say the same as the provider", SOON, async || {
            let receivable: i64 = sqlx::query_scalar(
                "select coalesce(sum(amount_minor), 0)::bigint from payments.ledger_entry
                 where payment_id = $1::uuid and account = 'receivable'",
            )
            .bind(payment)
            .fetch_one(pool)
            .await?;
            Ok((receivable == 1).then_some(()))
        })
        .await
    }

    async fn refund_at_the_provider(&self, object: &str) -> Result<()> {
        let processes = self.shop.world.processes().await;
        let provider = processes.iter().find(|(name, ..)| name == "provider").context("no provider runs")?;
        let admin = provider.1.get("admin").context("the provider has no admin address")?;
        let body = json!({ "payment_intent": object, "amount": 1 });
        let answer =
            reqwest::Client::new().post(format!("http://{admin}/admin/refund")).json(&body).send().await?;
        ensure!(answer.status().is_success(), "{} {}", answer.status(), answer.text().await?);
        Ok(())
    }

    /// Gives a command under one key until it is done or refused by the provider.
    async fn command(&self, payment: &str, verb: &str, body: &serde_json::Value) -> Result<()> {
        let (path, key) = (format!("/v1/payments/{payment}/{verb}"), format!("{verb}-{payment}"));
        until(&format!("{verb} of {payment}"), SOON, async || {
            let answer = self.client.post(&path, &key, body).await?;
            let refused = answer.status == 409 && answer.text("type").ends_with("/payment-refused");
            ensure!(answer.status == 200 || refused, "{} {}", answer.status, answer.body);
            Ok(Some(()))
        })
        .await
    }

    async fn until_end(&self, payment: &str, status: &str) -> Result<()> {
        until(&format!("payment {payment} to be {status}"), SOON, async || {
            let answer = self.client.get(&format!("/v1/payments/{payment}")).await?;
            let ended = answer.text("status") == status && answer.body["outcome_pending"] == json!(false);
            ensure!(ended, "{} {}", answer.status, answer.body);
            Ok(Some(()))
        })
        .await
    }
}

/// Waits until each payment's notices have their place and no difference is open, in either home.
async fn nothing_left(shop: &Shop<'_>, payments: usize) -> Result<()> {
    let payments = i64::try_from(payments)?;
    until("every notice to be taken and every difference to be closed", SOON, async || {
        // A refund made elsewhere surprises whoever hears of it before reconciliation has booked it; it is asked again in an hour.
        let sql = "select count(distinct payment_id),
                count(*) filter (where state not in ('applied', 'ignored')
                    and not (state = 'surprise' and why like 'refund.%: the books have no refund %'))
            from webhooks.notice";
        let (told, astray): (i64, i64) = sqlx::query_as(sql).fetch_one(&shop.source).await?;
        let open = open_differences(&shop.source).await? + open_differences(&shop.target).await?;
        ensure!(
            told >= payments && astray == 0 && open == 0,
            "of {payments} payments {told} were told of; {astray} notices astray, {open} differences open"
        );
        Ok(Some(()))
    })
    .await
}

async fn open_differences(home: &PgPool) -> Result<i64> {
    let sql = "select count(*) from payments.difference where state = 'open'";
    Ok(sqlx::query_scalar(sql).fetch_one(home).await?)
}

async fn every_point(side: Side) {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        let webhooks = shop.webhook_url();
        shop.start_all(&["acme"], &[("PROVIDER_WEBHOOK_URL", &webhooks)]).await?;
        let client = shop.client("acme")?;
        let mut accepted: Vec<Accepted> = born_at(&shop, side, &client).await?.into_iter().collect();
        let told = Told { shop: &shop, client, side };
        for (n, case) in cases(side).into_iter().enumerate() {
            let started = Instant::now();
            accepted.push(told.tell(n, case).await.with_context(|| format!("{case:?}"))?);
            let seconds = started.elapsed().as_secs_f64();
            // Not by `println!`, which a test that passes swallows.
            let (point, cause) = (case.point.name(), format!("{:?}", case.cause));
            writeln!(std::io::stderr(), "{point:<28} {cause:<10} {seconds:5.1} s")?;
        }
        shop.settle(SOON).await?;
        nothing_left(&shop, accepted.len()).await?;
        let findings = shop.check(accepted).await?;
        assert!(findings.holds(), "{findings}");
        Ok(())
    })
    .await;
}

#[test]
fn every_point_is_told_of_in_both_homes_but_for_those_of_webhooks() {
    // The monolith has the edge.
    let edge = [Point::WebhookStored, Point::WebhookDelivered, Point::WebhookMarked];
    for side in [Side::Source, Side::Target] {
        let told: Vec<Point> = cases(side).into_iter().map(|case| case.point).collect();
        for point in Point::ALL {
            let has = side == Side::Source || !edge.contains(&point);
            assert_eq!(told.contains(&point), has, "{point} at {side:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_monolith_dies_at_every_point_and_charges_once() {
    every_point(Side::Source).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_dies_at_every_point_and_charges_once() {
    every_point(Side::Target).await;
}
