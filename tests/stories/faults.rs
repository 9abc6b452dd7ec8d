//! Whatever fails while payments change their home: nothing is lost, and what can't go on says so.

mod feeds;
mod leaders;
mod refill;
mod rollback;
mod steps;
mod target;
mod waiting;

use std::fmt::Display;
use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::load::{Client, Load};
use tests::{Operator, Shop, until};

/// Until something is seen that needs no key to move.
const SOON: Duration = Duration::from_secs(30);
/// Until all keys have moved under load.
const MOVED: Duration = Duration::from_secs(180);
/// Until nothing is under way once the load has ended.
const SETTLED: Duration = Duration::from_secs(120);

/// Not by `println!`, which a test that passes swallows.
fn say(line: impl Display) -> Result<()> {
    Ok(writeln!(std::io::stderr(), "{line}")?)
}

/// Waits until so many more orders are accepted.
pub(crate) async fn more(load: &Load, wanted: usize) -> Result<()> {
    let enough = load.book().accepted() + wanted;
    until("more orders", SOON, async || Ok((load.book().accepted() >= enough).then_some(()))).await
}

/// The clients of a load.
fn clients(shop: &Shop<'_>) -> Result<Vec<Client>> {
    Ok(vec![shop.client("acme")?, shop.client("globex")?])
}

/// Waits until the migration has gone back to a stage, and no key is away.
async fn until_back(operator: &Operator, stage: strangler::Stage) -> Result<()> {
    until(&format!("stage {stage}"), MOVED, async || {
        let status = operator.status().await?;
        let there = status["stage"] == stage.name() && status["draining"] == false;
        ensure!(there, "{} {} {} {}", status["stage"], status["draining"], status["keys"], status["pinned"]);
        Ok(Some(()))
    })
    .await
}

/// A number in an answer.
fn number(answer: &Value, path: &str) -> Result<i64> {
    answer.pointer(path).and_then(Value::as_i64).with_context(|| format!("no number at {path} of {answer}"))
}

/// Starts the whole shop with one role of the monolith, such as `relay`, in a process of that name.
async fn start_apart(shop: &Shop<'_>, part: &str, rest: &str) -> Result<()> {
    shop.migrate(&["acme", "globex"]).await?;
    shop.start_provider(&[]).await?;
    shop.start_monolith("monolith", rest).await?;
    shop.start_monolith(part, part).await?;
    shop.start_service("payments-service", "all").await?;
    Ok(())
}
