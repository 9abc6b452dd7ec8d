//! Ways to objects that are asked for by something else than their id.

use std::collections::{BTreeSet, HashMap};

use crate::intent::Intent;
use crate::refund::Refund;

/// The metadata that clients search by; other names are found by reading all intents.
const TAGS: [&str; 2] = ["payment_id", "command_id"];

#[derive(Debug, Default)]
pub(super) struct Index {
    /// By name and value. An intent whose tag changed stays under the old value too: who searches looks again.
    tags: HashMap<(&'static str, String), BTreeSet<String>>,
    refunds: HashMap<String, BTreeSet<String>>,
}

impl Index {
    pub(super) fn tag(&mut self, intent: &Intent) {
        for name in TAGS {
            if let Some(value) = intent.metadata.get(name) {
                self.tags.entry((name, value.clone())).or_default().insert(intent.id.clone());
            }
        }
    }

    pub(super) fn refund(&mut self, refund: &Refund) {
        self.refunds.entry(refund.payment_intent.clone()).or_default().insert(refund.id.clone());
    }

    /// Newest first; `None` for a name that is not kept track of.
    pub(super) fn tagged<'a>(
        &'a self,
        name: &str,
        value: &str,
    ) -> Option<impl Iterator<Item = &'a String> + use<'a>> {
        let name = TAGS.iter().find(|known| **known == name)?;
        Some(self.tags.get(&(*name, value.to_owned())).into_iter().flat_map(|ids| ids.iter().rev()))
    }

    /// Newest first.
    pub(super) fn refunds<'a>(&'a self, intent: &str) -> impl Iterator<Item = &'a String> + use<'a> {
        self.refunds.get(intent).into_iter().flat_map(|ids| ids.iter().rev())
    }
}
