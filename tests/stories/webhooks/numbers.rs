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
    let processes = world.processes().await;
    let listening = processes.iter().find(|(name, ..)| name == process).map(|(_, listening, _)| listening);
    let admin =
        listening.and_then(|listening| listening.get("admin")).context("it names no admin address")?;
    let text = reqwest::get(format!("http://{admin}/metrics")).await?.text().await?;
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    Ok(types.filter(|name| name.starts_with("webhooks_")).map(str::to_owned).collect())
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
