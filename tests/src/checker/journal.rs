//! The provider's journal: what it did, in its own words.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

/// Every kind of movement. One that is not known here could be money that nobody counts.
const KINDS: [&str; 7] =
    ["charge", "authorization", "capture", "cancel", "refund", "refund_failure", "decline"];

/// One movement of money, or a provider's "no".
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Movement {
    /// `charge`, `authorization`, `capture`, `cancel`, `refund`, `refund_failure` or `decline`.
    pub kind: String,
    /// Minor units.
    pub amount: i64,
    /// The currency, in lower case.
    pub currency: String,
    /// The key that the request came with.
    #[serde(default)]
    pub idempotency_key: Option<String>,
    /// What our client attached: `payment_id`, `tenant`, `operation`, `command_id`.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

impl Movement {
    /// A value from the metadata, empty when missing.
    pub(super) fn tag(&self, name: &str) -> &str {
        self.metadata.get(name).map_or("", String::as_str)
    }

    /// Minor units that reached us (positive) or left us (negative).
    pub(super) fn taken(&self) -> i64 {
        match self.kind.as_str() {
            "charge" | "capture" | "refund_failure" => self.amount,
            "refund" => -self.amount,
            _ => 0,
        }
    }
}

/// All movements in the file. A torn last line is passed over: the provider never answered for it.
pub(super) fn read(path: &Path) -> Result<Vec<Movement>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("read the journal {}", path.display()))?;
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().filter_map(|line| movement(line).transpose()).collect()
}

/// What moved by a line. One without a kind moved nothing: the provider keeps its answers and its events there too.
pub(super) fn movement(line: &str) -> Result<Option<Movement>> {
    let line: Value = serde_json::from_str(line).context("a line of the journal is no JSON")?;
    let Some(kind) = line.get("kind") else { return Ok(None) };
    let known = kind.as_str().is_some_and(|kind| KINDS.contains(&kind));
    ensure!(known, "the journal has a movement of an unknown kind {kind}");
    serde_json::from_value(line).context("a movement of the journal can't be read").map(Some)
}
