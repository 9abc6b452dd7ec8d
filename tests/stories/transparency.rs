//! Nobody outside sees the migration: the same orders with the same provider, once without it, and once while it goes forward and
//! back and processes die, leave the same journal at the provider, the same books and the same streams.

mod day;
mod havoc;
mod seen;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use rand::SeedableRng;
use rand::rngs::StdRng;
use stack::Stack;
use tests::checker::{Accepted, check};
use tests::load::{Client, Product};
use tests::{Binaries, Shop, Side, World, story};
use tokio_util::sync::CancellationToken;

use self::day::{Day, Told};
use self::havoc::{Havoc, Step, name};
use self::seen::{Seen, differences, seen};

const TENANT: &str = "acme";
const SETTLED: Duration = Duration::from_secs(120);
/// Seeds of one world: a story has its time, and each seed takes some seconds.
const SEEDS_OF_A_WORLD: usize = 20;
/// Days at once where no migration disturbs them.
const DAYS_AT_ONCE: usize = 4;
/// More orders of a day than this are not needed until the migration has taken its step.
const MORE_MAX: u64 = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn never_migrated_and_migrated_look_the_same_from_outside() {
    let seeds: Vec<u64> = tests::seeds().unwrap().collect();
    for seeds in seeds.chunks(SEEDS_OF_A_WORLD) {
        story(async |world, stack| Box::pin(compare(world, stack, seeds)).await).await;
    }
}

async fn compare(world: &World, stack: &Stack, seeds: &[u64]) -> Result<()> {
    let days: Vec<Day> = seeds.iter().map(|seed| Day::of(*seed)).collect();
    let never = Box::pin(never_migrated(stack, &days)).await.context("never migrated")?;
    let shop = open(world, stack).await?;
    let migrated = Box::pin(migrated(&shop, &days)).await?;
    let lines = differences(&never, &migrated);
    ensure!(lines.is_empty(), "seeds {seeds:?}: {}", lines.join("\n"));
    Ok(())
}

/// A shop of which every process that dies is its groups' same member again: they need not wait until the dead one is missed.
async fn open<'w>(world: &'w World, stack: &Stack) -> Result<Shop<'w>> {
    let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
    shop.migrate(&[TENANT]).await?;
    shop.start_provider(&[("PROVIDER_WEBHOOK_URL", &shop.webhook_url())]).await?;
    for side in [Side::Source, Side::Target] {
        let mut spec = match side {
            Side::Source => shop.running_monolith(name(side), "all"),
            Side::Target => shop.running_service(name(side), "all"),
        };
        spec.env.push(("KAFKA_INSTANCE_ID".into(), name(side).into()));
        shop.start_ready(spec).await?;
    }
    Ok(shop)
}

/// The same days in a world of their own, undisturbed.
async fn never_migrated(stack: &Stack, days: &[Day]) -> Result<BTreeMap<String, Seen>> {
    let logs =
        tempfile::Builder::new().prefix("banyan-story-").tempdir().context("make a folder for logs")?;
    let world = World::new(stack, "never-migrated", logs.path())?;
    let seen = match Box::pin(undisturbed(&world, stack, days)).await {
        Ok(seen) => seen,
        Err(error) => return Err(error.context(world.tails().await)),
    };
    world.end().await?;
    Ok(seen)
}

async fn undisturbed(world: &World, stack: &Stack, days: &[Day]) -> Result<BTreeMap<String, Seen>> {
    let shop = open(world, stack).await?;
    let (client, answered) = (shop.client(TENANT)?, AtomicUsize::new(0));
    let products = client.products().await?;
    let mut told = Vec::new();
    for days in days.chunks(DAYS_AT_ONCE) {
        let lives = days.iter().map(|day| day.live(&client, &products, &answered));
        told.extend(try_join_all(lives).await?.into_iter().flatten());
    }
    settled(&shop, told, Vec::new()).await
}

/// The days one after the other, each with a step of the migration and deaths.
async fn migrated(shop: &Shop<'_>, days: &[Day]) -> Result<BTreeMap<String, Seen>> {
    let (client, answered) = (shop.client(TENANT)?, AtomicUsize::new(0));
    let products = client.products().await?;
    let havoc = Havoc::new(shop, &answered)?;
    let (mut told, mut more, mut steps) = (Vec::new(), Vec::new(), Vec::new());
    for day in days {
        let started = Instant::now();
        let disturbed = Box::pin(disturbed(day, &client, &products, &answered, &havoc));
        let (compared, others, step) = disturbed.await.with_context(|| format!("seed {}", day.seed))?;
        // Not by `println!`, which a test that passes swallows.
        let (seed, seconds) = (day.seed, started.elapsed().as_secs_f64());
        writeln!(
            std::io::stderr(),
            "seed {seed:<6} {:<24} killed {:?} {seconds:5.1} s",
            step.moved.join(", "),
            step.killed
        )?;
        told.extend(compared);
        more.extend(others);
        steps.push(step);
    }
    has_seen_everything(&steps)?;
    havoc.comes_to_rest().await?;
    settled(shop, told, more).await
}

/// One day. When its orders are done and the migration's step is not, more orders come: some gates want to see traffic.
async fn disturbed(
    day: &Day,
    client: &Client,
    products: &[Product],
    answered: &AtomicUsize,
    havoc: &Havoc<'_>,
) -> Result<(Vec<Told>, Vec<Accepted>, Step)> {
    let taken = CancellationToken::new();
    let orders = async {
        let told = day.live(client, products, answered).await?;
        let mut more = Vec::new();
        for n in 0..MORE_MAX {
            if taken.is_cancelled() {
                break;
            }
            let others = day.more(n).live(client, products, answered).await?;
            more.extend(others.into_iter().map(|told| told.accepted));
        }
        anyhow::Ok((told, more))
    };
    let step = async {
        let step = havoc.step(&mut StdRng::seed_from_u64(!day.seed)).await;
        taken.cancel();
        step
    };
    let ((told, more), step) = tokio::try_join!(Box::pin(orders), Box::pin(step))?;
    Ok((told, more, step))
}

/// As many seeds as a world may have go forward and back and kill both homes; else the comparison would show little.
fn has_seen_everything(steps: &[Step]) -> Result<()> {
    if steps.len() < SEEDS_OF_A_WORLD {
        return Ok(());
    }
    let moved: BTreeSet<&str> = steps.iter().flat_map(|step| &step.moved).copied().collect();
    for wanted in ["follow", "ramp", "primary", "rollback"] {
        ensure!(moved.contains(wanted), "no seed had the step {wanted}: {moved:?}");
    }
    for side in [Side::Source, Side::Target] {
        ensure!(
            steps.iter().any(|step| step.killed.contains(&side)),
            "no process of the {side:?} was killed"
        );
    }
    Ok(())
}

/// What was seen, once nothing is under way; the checker's promises hold as well.
async fn settled(shop: &Shop<'_>, told: Vec<Told>, more: Vec<Accepted>) -> Result<BTreeMap<String, Seen>> {
    shop.settle(SETTLED).await?;
    let accepted = told.iter().map(|told| told.accepted.clone()).chain(more).collect();
    let evidence = shop.evidence(accepted).await?;
    let findings = check(&evidence);
    ensure!(findings.holds(), "{findings}");
    seen(&evidence, &told)
}
