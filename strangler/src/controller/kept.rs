//! Evidence that was kept: it counts for a while, for what runs here, and as long as nothing newer makes it void.

use std::time::Duration;

use serde_json::json;

use super::Controller;
use crate::store::evidence as store;
use crate::{Gate, Verdict};

/// The word of the gates on evidence that was kept.
const LAST: &str = "the last evidence";

impl Controller {
    /// The last evidence of a gate, weighed; none when there never was any.
    pub(super) async fn kept(&self, gate: &str) -> Option<Gate> {
        match store::last(&self.0.pool, &self.0.migration, gate).await {
            Ok(None) => None,
            Ok(Some(kept)) => {
                let (verdict, found) = self.weigh(&kept);
                let cited = json!({ "id": kept.id, "at": kept.at.unix_timestamp(), "version": kept.version });
                Some(Gate::new(gate, verdict, found).with(cited))
            }
            Err(error) => {
                tracing::warn!(%error, gate, "the last evidence could not be read");
                let found = format!("{LAST} could not be read; see the controller's log");
                Some(Gate::new(gate, Verdict::Inconclusive, found))
            }
        }
    }

    /// How long evidence and approvals count.
    pub(super) fn evidence_lifetime(&self) -> Duration {
        Duration::from_secs(u64::from(self.thresholds().evidence_hours) * 3_600)
    }

    /// What was kept is void when it is old, of another version, or from before the end of a backfill.
    fn weigh(&self, kept: &store::Kept) -> (Verdict, String) {
        let void = |why: &str| (Verdict::Inconclusive, format!("{LAST} {why}"));
        if kept.unfinished {
            let since = if kept.expired {
                ": it was ended with its process, or by its caller, and is not resumed (`banyan parity` begins anew)"
            } else {
                " yet: it is under way, or was ended with its process"
            };
            return (Verdict::Inconclusive, format!("{}{since}", kept.found));
        }
        if kept.expired {
            return void("has expired");
        }
        if kept.version.as_deref() != Some(self.0.settings.version.as_str()) {
            return void("was found by another version");
        }
        if kept.outdated {
            return void("began before the end of the backfill");
        }
        match Verdict::named(&kept.verdict) {
            Some(verdict) => (verdict, kept.found.clone()),
            None => void("has a verdict that this version does not know"),
        }
    }
}
