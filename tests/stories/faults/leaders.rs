//! Two controllers at once: one acts. When it dies or stands still in the middle the other goes on, and one that wakes up and still
//! believes to lead changes nothing that is not so any more.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sqlx::postgres::PgTransaction;
use strangler::Stage;
use tests::checker::Accepted;
use tests::load::{Client, Load, Plan};
use tests::{Binaries, Shop, Spec, story, until};

use super::{MOVED, SETTLED, SOON, clients, more, say, until_back};
use crate::handover::{count, paid, until_all_at};

const BASE: &str = "/admin/migrations/payments";
const NAMES: [&str; 2] = ["controller-1", "controller-2"];
/// Payments that are at the source before any moves.
const BEFORE: usize = 100;
/// So many of them can't move while a controller is killed or paused: whatever the machine's pace, the other one has some left.
const KEPT: usize = 20;

/// Both controllers, each in a process of its own, with a client of its admin API.
struct Leaders<'a> {
    shop: &'a Shop<'a>,
    seats: [Client; 2],
    specs: [Spec; 2],
}

impl<'a> Leaders<'a> {
    /// The first has the admin port that the operator knows, and the second another one that outlives a restart, too.
    async fn start(shop: &'a Shop<'a>) -> Result<Self> {
        let second = tests::Port::free()?;
        let ports = [&shop.ports.admin, &second];
        let spec = |name: &str, listen: String| {
            let mut spec = shop.running_monolith(name, "controller");
            // Of a setting that is there twice the later one counts.
            spec.env.push(("MONOLITH_ADMIN_LISTEN".into(), listen));
            spec
        };
        let [first, other] = ports.map(tests::Port::hand_over);
        let specs = [spec(NAMES[0], first), spec(NAMES[1], other)];
        for spec in &specs {
            shop.start_ready(spec.clone()).await?;
        }
        let token = shop.token("operations", &[chassis::Role::Operator])?;
        let seat = |port: &tests::Port| {
            Client::new(format!("http://127.0.0.1:{}", port.number()), "operations", token.clone())
        };
        let seats = [seat(&shop.ports.admin)?, seat(&second)?];
        Ok(Self { shop, seats, specs })
    }

    /// What the controller of this number says.
    async fn status(&self, n: usize) -> Result<Value> {
        let seat = self.seats.get(n).context("there are two controllers")?;
        let answer = seat.get(BASE).await?;
        ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
        Ok(answer.body)
    }

    /// The number of the one that leads, as this one says. Its name begins with its process id.
    async fn leader(&self, asked: usize) -> Result<usize> {
        let status = self.status(asked).await?;
        let holder = status["controller"].as_str().context("none leads")?.to_owned();
        for (n, name) in NAMES.into_iter().enumerate() {
            let pid = self.shop.world.pid(name).await;
            if pid.is_ok_and(|pid| holder.starts_with(&format!("{pid}-"))) {
                return Ok(n);
            }
        }
        anyhow::bail!("{holder} leads, and does not run")
    }

    async fn until_leads(&self, n: usize) -> Result<()> {
        until(&format!("{} to lead", NAMES[n]), SOON, async || {
            let leader = self.leader(n).await?;
            ensure!(leader == n, "{} leads", NAMES[leader]);
            Ok(Some(()))
        })
        .await
    }

    /// Waits until keys have begun to leave a home where none is born now, as this controller says.
    async fn until_fewer(&self, asked: usize, home: &str, at_first: i64) -> Result<()> {
        until(&format!("keys to leave the {home}"), MOVED, async || {
            let status = self.status(asked).await?;
            ensure!(count(&status, home) < at_first, "{}", status["keys"]);
            Ok(Some(()))
        })
        .await
    }
}

/// Keeps payments where they are until the transaction ends, as writes under way do.
async fn keep(shop: &Shop<'_>, payments: &[Accepted]) -> Result<PgTransaction<'static>> {
    let keys: Vec<&str> = payments.iter().map(|accepted| accepted.payment.as_str()).collect();
    let mut tx = shop.source.begin().await?;
    let sql = "select key from strangler.owner where migration = 'payments' and key = any ($1) order by key for share";
    let kept = sqlx::query(sql).bind(&keys).fetch_all(&mut *tx).await?.len();
    ensure!(kept == keys.len(), "{kept} of {} payments have an owner", keys.len());
    Ok(tx)
}

/// How many payments are still to leave a home where none is born now: those that are kept at least.
async fn left(shop: &Shop<'_>, home: &str) -> Result<i64> {
    let sql = "select count(*) from strangler.owner where migration = 'payments' and owner = $1";
    let left: i64 = sqlx::query_scalar(sql).bind(home).fetch_one(&shop.source).await?;
    ensure!(left >= i64::try_from(KEPT)?, "only {left} were left at the {home}");
    Ok(left)
}

/// The other of two.
fn other(n: usize) -> usize {
    1 - n
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_controllers_one_acts_and_the_other_goes_on_when_it_dies_or_stands_still() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        shop.migrate(&["acme", "globex"]).await?;
        shop.start_provider(&[]).await?;
        let mut web = shop.running_monolith("monolith", "web,relay,inbox");
        web.env.push(("MONOLITH_ADMIN_LISTEN".into(), "127.0.0.1:0".into()));
        shop.start_ready(web).await?;
        shop.start_service("payments-service", "all").await?;
        let leaders = Leaders::start(&shop).await?;
        let (operator, client) = (shop.operator()?, shop.client("acme")?);
        let before = paid(&client, "before", BEFORE).await?;
        let load = Load::start(Plan { rate: 5, ..Plan::default() }, clients(&shop)?).await?;
        operator.follow().await?;
        operator.ramp(100).await?;
        more(&load, 10).await?;

        // One dies on the way forward.
        let at_source = count(&leaders.status(0).await?, "source");
        let kept = keep(&shop, &before[BEFORE - KEPT..]).await?;
        operator.primary().await?;
        let dies = leaders.leader(0).await?;
        leaders.until_fewer(dies, "source", at_source).await?;
        world.kill(NAMES[dies]).await?;
        let to_go = left(&shop, "source").await?;
        leaders.until_leads(other(dies)).await?;
        kept.rollback().await?;
        shop.start_ready(leaders.specs[dies].clone()).await?;
        say(format!("{} died with {to_go} to go forward, {} went on", NAMES[dies], NAMES[other(dies)]))?;
        until_all_at(&operator, "target").await?;

        // One stands still on the way back, and wakes up when the other leads.
        let sleeps = leaders.leader(0).await?;
        let at_target = count(&leaders.status(sleeps).await?, "target");
        let kept = keep(&shop, &before[BEFORE - KEPT..]).await?;
        operator.rollback().await?;
        leaders.until_fewer(sleeps, "target", at_target).await?;
        world.pause(NAMES[sleeps]).await?;
        let to_go = left(&shop, "target").await?;
        leaders.until_leads(other(sleeps)).await?;
        kept.rollback().await?;
        world.resume(NAMES[sleeps]).await?;
        say(format!(
            "{} stood still with {to_go} to go back, {} went on",
            NAMES[sleeps],
            NAMES[other(sleeps)]
        ))?;
        until_back(&operator, Stage::Following).await?;

        let tally = load.stop().await?;
        ensure!(tally.failures.is_empty(), "{tally}");
        shop.settle(SETTLED).await?;
        until_all_at(&operator, "source").await?;
        assert_eq!(operator.status().await?["pinned"], json!(0));
        let findings = shop.check([before, tally.accepted].concat()).await?;
        assert!(findings.holds(), "{findings}");
        Ok(())
    })
    .await;
}
