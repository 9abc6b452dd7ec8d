//! Two controllers at once: one acts. When it dies or stands still in the middle the other goes on, and one that wakes up and still
//! believes to lead changes nothing that is not so any more.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use strangler::Stage;
use tests::load::{Client, Load, Plan};
use tests::{Binaries, Shop, Spec, story, until};

use super::{MOVED, SETTLED, SOON, clients, more, say, until_back};
use crate::handover::{count, paid, until_all_at};

const BASE: &str = "/admin/migrations/payments";
const NAMES: [&str; 2] = ["controller-1", "controller-2"];
/// Payments that are at the source before any moves.
const BEFORE: usize = 100;

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
        operator.primary().await?;
        let dies = leaders.leader(0).await?;
        leaders.until_fewer(dies, "source", at_source).await?;
        world.kill(NAMES[dies]).await?;
        leaders.until_leads(other(dies)).await?;
        shop.start_ready(leaders.specs[dies].clone()).await?;
        say(format!("{} died on the way forward, {} went on", NAMES[dies], NAMES[other(dies)]))?;
        until_all_at(&operator, "target").await?;

        // One stands still on the way back, and wakes up when the other leads.
        let sleeps = leaders.leader(0).await?;
        let at_target = count(&leaders.status(sleeps).await?, "target");
        operator.rollback().await?;
        leaders.until_fewer(sleeps, "target", at_target).await?;
        world.pause(NAMES[sleeps]).await?;
        leaders.until_leads(other(sleeps)).await?;
        world.resume(NAMES[sleeps]).await?;
        say(format!("{} stood still on the way back, {} went on", NAMES[sleeps], NAMES[other(sleeps)]))?;
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
