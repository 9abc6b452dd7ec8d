//! What tests tell the provider to do wrong. Kept in the journal, so that a restart goes on with it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// An order by admin call.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Control {
    Settlements(Lies),
}

/// What the settlement list hides, alters and puts off. The journal is never touched. The last order counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Lies {
    /// Lines that are left out, by `txn_..`, or all of a payment by `pi_..`.
    hide: BTreeSet<String>,
    /// What is added to an amount, in minor units: of one line by `txn_..`, of a payment's charge by `pi_..`.
    alter: BTreeMap<String, i64>,
    /// How many seconds after its `created` a line shows.
    delay_s: u32,
}

impl Lies {
    pub(crate) fn hides(&self, transaction: &str, intent: &str) -> bool {
        self.hide.contains(transaction) || self.hide.contains(intent)
    }

    pub(crate) fn altered(&self, id: &str) -> i64 {
        self.alter.get(id).copied().unwrap_or(0)
    }

    pub(crate) fn delay_ms(&self) -> i64 {
        i64::from(self.delay_s) * 1_000
    }
}
