//! The controller is aborted behind every step, and started again: it goes on from the tables. A point that is not reached fails the
//! story.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use strangler::Point;
use tests::load::Client;
use tests::{Binaries, Operator, Shop, Spec, story, until};

use super::{SETTLED, number, say, until_back};
use crate::handover::{none_is_pinned, paid, until_all_at};

const SIGABRT: i32 = 6;
/// Until a point is reached. The lease of the one that died before lasts 5 s.
const REACHED: Duration = Duration::from_secs(60);
/// Until an operator's wish is carried out, over the death of the controller.
const DONE: Duration = Duration::from_secs(120);
const BASE: &str = "/admin/migrations/payments";

/// What leads a controller to a point.
#[derive(Clone, Copy, Debug)]
enum Cause {
    /// The stage `following` is entered: each key gets an owner.
    Follow,
    /// A backfill begins anew. Where the target has lost its copies, it is given them.
    Fill { emptied: bool },
    /// The stage `primary` is entered, so the keys of the source move.
    Primary,
    /// All keys are called back.
    Rollback,
    /// Nothing more than that it is started: it goes on with what the dead one left.
    Start,
}

/// In this order each finds what the one before it left, so each death is also a restart in the middle.
const CASES: [(Point, Cause); 10] = [
    (Point::Seeded, Cause::Follow),
    (Point::PagePublished, Cause::Fill { emptied: true }),
    (Point::PageNoted, Cause::Fill { emptied: false }),
    (Point::Fenced, Cause::Primary),
    (Point::ReadyAnswered, Cause::Start),
    (Point::Decided, Cause::Start),
    (Point::GrantAnswered, Cause::Start),
    (Point::GrantNoted, Cause::Start),
    (Point::RecallBegun, Cause::Rollback),
    (Point::RecallAnswered, Cause::Start),
];

/// A controller in a process of its own. What it answers an operator may be lost with it.
struct Mortal<'a> {
    shop: &'a Shop<'a>,
    operator: Operator,
    admin: Client,
}

impl Mortal<'_> {
    /// It has the admin port that the operator knows.
    fn spec(&self, at: Option<Point>) -> Spec {
        let mut spec = self.shop.running_monolith("controller", "controller");
        // Of a setting that is there twice the later one counts.
        spec.env.push(("MONOLITH_ADMIN_LISTEN".into(), self.shop.ports.admin.hand_over()));
        let at = at.map(|point| ("MONOLITH_CONTROLLER_CRASH_AT".to_owned(), point.name().to_owned()));
        spec.env.extend(at);
        spec
    }

    /// One point: the controller that runs ends, one that will die is started and given its cause, and it dies. Another is started
    /// unless the next point takes up what this one left.
    async fn tell(&self, point: Point, cause: Cause, goes_on: bool) -> Result<()> {
        let began = Instant::now();
        if matches!(cause, Cause::Fill { .. }) {
            // Else the mortal one would go on with what is under way before it says where it listens.
            self.until_filled().await?;
        }
        if self.shop.world.pid("controller").await.is_ok() {
            self.shop.world.stop("controller").await?;
        }
        self.prepare(cause).await?;
        self.shop.world.start(self.spec(Some(point))).await?;
        let dies = async {
            let status = self.shop.world.ended("controller", REACHED).await;
            let status = status.with_context(|| format!("{point} was not reached"))?;
            ensure!(status.signal() == Some(SIGABRT), "{point}: it ended otherwise: {status}");
            if !goes_on {
                self.shop.start_ready(self.spec(None)).await?;
            }
            Ok(())
        };
        let ((), ()) = tokio::try_join!(self.cause(cause), dies)?;
        let (name, cause, seconds) = (point.name(), format!("{cause:?}"), began.elapsed().as_secs_f64());
        say(format!("{name:<26} {cause:<24} {seconds:5.1} s"))
    }

    async fn prepare(&self, cause: Cause) -> Result<()> {
        if matches!(cause, Cause::Fill { emptied: true }) {
            let service = self.shop.world.stop("payments-service").await?;
            self.shop.empty_replica().await?;
            self.shop.start_ready(service).await?;
        }
        Ok(())
    }

    /// Asks until it is so. What follows from a stage is seen by the next points.
    async fn cause(&self, cause: Cause) -> Result<()> {
        match cause {
            Cause::Follow => self.operator.follow().await,
            Cause::Fill { .. } => self.filled().await,
            Cause::Primary => {
                self.insist("advance", json!({ "to": "primary" }), |stage, _| stage == "primary").await
            }
            Cause::Rollback => self.insist("rollback", json!({}), |_, draining| draining).await,
            Cause::Start => Ok(()),
        }
    }

    /// Asks until the policy's row says it: whoever is killed before the answer has done it all the same, and asking for a second
    /// step would be another wish.
    async fn insist(&self, what: &str, body: Value, wanted: fn(&str, bool) -> bool) -> Result<()> {
        let sql = "select stage, draining from strangler.migration where name = 'payments'";
        let mut last = String::new();
        let written = until(&format!("{what} to be in the tables"), DONE, async || {
            let (stage, draining): (String, bool) = sqlx::query_as(sql).fetch_one(&self.shop.source).await?;
            if wanted(&stage, draining) {
                return Ok(Some(()));
            }
            let key = uuid::Uuid::now_v7().to_string();
            let answer = self.admin.post(&format!("{BASE}/{what}"), &key, &body).await;
            last = answer.map_or_else(|error| error.to_string(), |it| format!("{} {}", it.status, it.body));
            Ok(None)
        })
        .await;
        written.with_context(|| format!("last: {last}"))
    }

    /// Begins a backfill once, and waits until it is done.
    async fn filled(&self) -> Result<()> {
        let sql = "select max(begun_at)::text from strangler.backfill where migration = 'payments'";
        let begun = async || -> Result<Option<String>> {
            Ok(sqlx::query_scalar(sql).fetch_one(&self.shop.source).await?)
        };
        let before = begun().await?;
        until("a backfill to begin", DONE, async || {
            if begun().await? != before {
                return Ok(Some(()));
            }
            self.operator.backfill_again().await.map(|_| None)
        })
        .await?;
        self.until_filled().await
    }

    async fn until_filled(&self) -> Result<()> {
        until("the backfill to be done", DONE, async || {
            let status = self.operator.status().await?;
            ensure!(!status["backfill"]["done_at"].is_null(), "{}", status["backfill"]);
            Ok(Some(()))
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_dies_behind_any_step_is_followed_by_one_that_goes_on() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        start_with_mortal(&shop).await?;
        let (operator, client) = (shop.operator()?, shop.client("acme")?);
        let mortal = Mortal { shop: &shop, operator: shop.operator()?, admin: shop.operator_client()? };
        let mut accepted = paid(&client, "before", 30).await?;

        for (n, (point, cause)) in CASES.into_iter().enumerate() {
            if point == Point::Fenced {
                operator.ramp(100).await?;
                // `primary` wants to see that what the target writes arrives.
                accepted.extend(paid(&client, "at-the-target", 5).await?);
            }
            let goes_on = matches!(CASES.get(n + 1), Some((_, Cause::Start)));
            Box::pin(mortal.tell(point, cause, goes_on)).await?;
            match point {
                Point::GrantNoted => until_all_at(&operator, "target").await?,
                Point::RecallAnswered => until_all_at(&operator, "source").await?,
                _ => {}
            }
        }
        until_back(&operator, strangler::Stage::Following).await?;
        none_is_pinned(&operator).await?;
        let pinned = operator.pinned().await?;
        ensure!(number(&pinned, "/count")? == 0, "{pinned}");
        accepted.extend(paid(&client, "after", 3).await?);
        shop.settle(SETTLED).await?;
        let findings = shop.check(accepted).await?;
        assert!(findings.holds(), "{findings}");
        Ok(())
    })
    .await;
}

/// All but the controller, which each case starts for itself.
async fn start_with_mortal(shop: &Shop<'_>) -> Result<()> {
    shop.migrate(&["acme"]).await?;
    shop.start_provider(&[]).await?;
    let mut web = shop.running_monolith("monolith", "web,relay,inbox");
    // The admin port that the operator knows is the controller's.
    web.env.push(("MONOLITH_ADMIN_LISTEN".into(), "127.0.0.1:0".into()));
    shop.start_ready(web).await?;
    shop.start_service("payments-service", "all").await?;
    Ok(())
}

#[test]
fn every_point_is_told_of_once() {
    let told: Vec<Point> = CASES.into_iter().map(|(point, _)| point).collect();
    for point in Point::ALL {
        assert_eq!(told.iter().filter(|it| **it == point).count(), 1, "{point}");
    }
}
