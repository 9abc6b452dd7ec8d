//! The provider's journal: what it did, in its own words.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

/// One movement of money, or a provider's "no".
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Movement {
    /// `charge`, `authorization`, `capture`, `cancel`, `refund` or `decline`.
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
            "charge" | "capture" => self.amount,
            "refund" => -self.amount,
            _ => 0,
        }
    }
}

/// All movements in the file. Lines that are none (the provider keeps its idempotency records there too) are passed over;
/// so is a torn last line, which the provider never answered for.
pub(super) fn read(path: &Path) -> Result<Vec<Movement>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("read the journal {}", path.display()))?;
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    Ok(whole.lines().filter_map(movement).collect())
}

fn movement(line: &str) -> Option<Movement> {
    let movement: Movement = serde_json::from_str(line).ok()?;
    let known = ["charge", "authorization", "capture", "cancel", "refund", "decline"];
    known.contains(&movement.kind.as_str()).then_some(movement)
}
