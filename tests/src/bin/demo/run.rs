//! From an empty machine to the table.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use stack::Stack;
use tests::checker::{self, Evidence, Findings};
use tests::load::Tally;
use tests::memory::Peak;
use tests::{Binaries, Port, Ports, Shop, World};

use crate::args::Args;
use crate::keep;
use crate::logs;
use crate::progress::Progress;
use crate::report::Report;
use crate::walk::Walk;

/// Ports that people can guess; another is taken when one is in use.
const HTTP_PORT: u16 = 8080;
const ADMIN_PORT: u16 = 8081;
const GRPC_PORT: u16 = 50051;
/// How long the shop may take to come to rest after the load.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(90);
/// When it was broken on purpose it will not: no need to wait as long.
const BROKEN_SETTLE_TIMEOUT: Duration = Duration::from_secs(20);
/// Between two measurements of memory.
const SAMPLE_EVERY: Duration = Duration::from_secs(2);

/// Runs the demo; true when every promise held.
pub(crate) async fn run(args: &Args) -> Result<bool> {
    let progress = Progress::new();
    let binaries = Binaries::beside().context("run `cargo xtask demo`, which builds all programs")?;
    progress.begin("bringing up PostgreSQL and Kafka");
    let stack = Box::pin(Stack::start(args.stack)).await?;
    progress.say(&stack.describe());
    let logs = logs::folder()?;
    let world = World::new(&stack, "demo", &logs)?;
    progress.say(&format!("logs are in {}", logs.display()));
    let result = Box::pin(in_world(args, &progress, &stack, &world, binaries)).await;
    progress.end();
    let held = match result {
        Ok(held) => held,
        Err(error) => {
            eprintln!("{}", world.tails().await);
            close(world, stack).await?;
            return Err(error);
        }
    };
    if held {
        world.end().await.context("take the world down in order")?;
    } else {
        world.close().await?;
    }
    stack.close().await?;
    Ok(held)
}

async fn close(world: World, stack: Stack) -> Result<()> {
    world.close().await?;
    Ok(stack.close().await?)
}

async fn in_world(
    args: &Args,
    progress: &Progress,
    stack: &Stack,
    world: &World,
    binaries: Binaries,
) -> Result<bool> {
    let ports = Ports {
        http: port(progress, "HTTP", HTTP_PORT)?,
        admin: port(progress, "the admin API", ADMIN_PORT)?,
        grpc: port(progress, "gRPC", GRPC_PORT)?,
        provider: Port::free()?,
    };
    let shop = Shop::open_at(world, stack, binaries, ports).await?;
    let peak = Arc::new(Peak::default());
    let walk = Walk::new(args, &shop, progress)?;
    let (report, findings, tally) = tokio::select! {
        walked = Box::pin(walked(walk, stack, &peak)) => walked?,
        never = sample(stack, world, &peak) => never,
    };
    progress.end();
    println!("\n{}\n{tally}\n{findings}\n{}", report.stages(), report.summary());
    if let Some(path) = &args.json {
        report.write(path)?;
    }
    let held = findings.holds() && tally.failures.is_empty();
    println!("  {}", if held { "every promise held" } else { "NOT EVERY PROMISE HELD" });
    if args.keep {
        keep::keep(&shop, stack).await?;
    }
    Ok(held)
}

async fn walked(mut walk: Walk<'_>, stack: &Stack, peak: &Peak) -> Result<(Report, Findings, Tally)> {
    let past = walk.start().await?;
    let load = walk.load().await?;
    Box::pin(walk.stages(&load, &past)).await?;
    walk.progress.begin("the load stops");
    let tally = load.stop().await?;
    walk.progress.begin("everything comes to rest");
    let bound = if walk.args.broken.is_some() { BROKEN_SETTLE_TIMEOUT } else { SETTLE_TIMEOUT };
    // The checker names what is not at rest, key by key: that is more than this wait could say.
    if let Err(error) = walk.shop.settle(bound).await {
        walk.progress.say(&format!("{error:#}"));
    }
    walk.progress.begin("checking databases, topics and journal");
    let accepted = past.accepted().chain(tally.accepted.iter().cloned()).collect();
    let evidence = walk.shop.evidence(accepted).await?;
    let findings = checker::check(&Evidence { older: past.streams(), ..evidence });
    let seconds = walk.progress.seconds();
    Ok((Report::new(&findings, walk.walked, seconds, stack.source(), peak.mb()), findings, tally))
}

/// Measures until it is dropped.
async fn sample(stack: &Stack, world: &World, peak: &Arc<Peak>) -> ! {
    let mut ticks = tokio::time::interval(SAMPLE_EVERY);
    loop {
        ticks.tick().await;
        let mut roots = world.pids().await;
        roots.extend(stack.pids());
        roots.push(std::process::id());
        let peak = Arc::clone(peak);
        // Reading /proc takes a while; a sample that fails is made up for by the next.
        let _ = tokio::task::spawn_blocking(move || peak.sample(&roots)).await;
    }
}

fn port(progress: &Progress, what: &str, number: u16) -> Result<Port> {
    let (port, as_asked) = Port::preferred(number)?;
    if !as_asked {
        progress.say(&format!("port {number} is in use; {what} gets {}", port.number()));
    }
    Ok(port)
}
