//! A rollback that was carried through is evidence that the way back works: keys left the target under the policy that
//! will be asked to do it again.

use serde_json::json;
use sqlx::postgres::PgTransaction;

use super::Controller;
use crate::policy::Policy;
use crate::store::{drill as store, evidence};
use crate::{Error, Gate, Stage, Verdict};

/// The gate that it is evidence for.
const GATE: &str = "drill";

impl Controller {
    /// Notes the rollback that ends in this transaction, which enters the lower stage, because no key is away any more. One
    /// that had no key to bring home shows nothing.
    pub(super) async fn note_drill(&self, tx: &mut PgTransaction<'_>) -> Result<(), Error> {
        let migration = &self.0.migration;
        let Some(drilled) = store::under_way(&mut **tx, migration).await? else { return Ok(()) };
        let store::Drilled { stage, percent, tenants, keys, seconds } = drilled;
        if keys < 1 {
            return Ok(());
        }
        let found = format!("{keys} keys came home within {seconds:.1} s after a rollback from {stage}");
        let inputs = json!({
            "version": self.0.settings.version, "stage": stage, "percent": percent, "tenants": tenants, "keys": keys,
            "seconds": seconds,
        });
        let gate = Gate::new(GATE, Verdict::Pass, found).with(inputs);
        evidence::keep(&mut **tx, migration, &gate, None, self.evidence_lifetime()).await
    }

    /// Whether the way back was shown, as far as a policy needs that. In `primary` all keys go, whatever percent or tenants made the
    /// ramp whole. A stage that is being rolled back may be entered again however old its drill is: only the end of this rollback would
    /// be another, and a key that can't come home keeps it from that.
    pub(super) async fn drilled(&self, from: &Policy, next: &Policy) -> Gate {
        if from.draining
            && from.stage == next.stage
            && (next.stage == Stage::Primary || next.percent <= from.percent)
        {
            let found = "not needed to enter a stage again that is being rolled back";
            return Gate::new(GATE, Verdict::Pass, found);
        }
        let free = self.thresholds().first_ramp_percent_max;
        let percent = if next.stage == Stage::Primary { 100 } else { next.percent };
        if percent <= free {
            let found = format!("not needed for named tenants and at most {free} %");
            return Gate::new(GATE, Verdict::Pass, found);
        }
        let never = || {
            let found = "no ramp with keys at the target was rolled back and brought them all home";
            Gate::new(GATE, Verdict::Inconclusive, found)
        };
        self.kept(GATE).await.unwrap_or_else(never)
    }
}
