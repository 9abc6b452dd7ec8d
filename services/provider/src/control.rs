//! What tests tell the provider to do wrong. Kept in the journal, so that a restart goes on with it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::script::Order;

/// The most times that an event is delivered beyond the first.
const DUPLICATE_MAX: u32 = 10;

/// The longest that an event is held: an hour.
const HOLD_MS_MAX: i64 = 3_600_000;

/// An order by admin call.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Control {
    Settlements(Lies),
    Webhooks(Mischief),
    Script(Order),
}

/// What is done wrong with webhooks. The last order counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Mischief {
    /// How many times more than once each event that is made from now on is delivered.
    pub(crate) duplicate: u32,
    /// Of the events that are due the newest goes first, one after another.
    pub(crate) reverse: bool,
    /// How long an event waits before it is first sent, in milliseconds.
    pub(crate) hold_ms: i64,
}

impl Mischief {
    /// Refuses what would never end.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let wrong =
            |name, most| Failure::param("parameter_invalid", name, format!("Must be from 0 to {most}"));
        if self.duplicate > DUPLICATE_MAX {
            return Err(wrong("duplicate", i64::from(DUPLICATE_MAX)));
        }
        if !(0..=HOLD_MS_MAX).contains(&self.hold_ms) {
            return Err(wrong("hold_ms", HOLD_MS_MAX));
        }
        Ok(())
    }
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
