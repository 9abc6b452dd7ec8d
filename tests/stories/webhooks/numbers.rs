//! The numbers of webhooks, and what the documentation and the alerts say of them.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use tests::World;

/// The words of a file of the repository that begin with `webhooks_`.
pub(super) fn named_in(file: &str) -> Result<BTreeSet<String>> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file))?;
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
    Ok(words.filter(|word| word.starts_with("webhooks_")).map(str::to_owned).collect())
}

/// The numbers of webhooks that a process shows.
pub(super) async fn shown(world: &World, process: &str) -> Result<BTreeSet<String>> {
    let text = metrics(world, process).await?;
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    Ok(types.filter(|name| name.starts_with("webhooks_")).map(str::to_owned).collect())
}

/// How many webhooks a process has given this answer.
pub(super) async fn received(world: &World, process: &str, answer: &str) -> Result<i64> {
    let text = metrics(world, process).await?;
    let label = format!("answer=\"{answer}\"");
    let of_answer = |line: &&str| line.starts_with("webhooks_received_total{") && line.contains(&label);
    let counts = text.lines().filter(of_answer).filter_map(|line| line.rsplit(' ').next());
    Ok(counts.map(str::parse::<i64>).sum::<Result<i64, _>>()?)
}

async fn metrics(world: &World, process: &str) -> Result<String> {
    let processes = world.processes().await;
    let listening = processes.iter().find(|(name, ..)| name == process).map(|(_, listening, _)| listening);
    let admin =
        listening.and_then(|listening| listening.get("admin")).context("it names no admin address")?;
    Ok(reqwest::get(format!("http://{admin}/metrics")).await?.text().await?)
}

#[test]
fn each_alert_on_webhooks_has_its_line_in_the_documentation() {
    let file = |path: &str| {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
    };
    let rules = file("deploy/prometheus/webhooks.rules.yaml");
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let page = file("docs/webhooks.md");
    let lines = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    assert_eq!(alerts, lines.filter(|name| name.starts_with("Webhooks")).collect::<Vec<_>>());
    assert!(alerts.len() > 3, "{alerts:?}");
}
