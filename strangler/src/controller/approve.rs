//! Steps that can't be taken back need two people.

use serde_json::json;

use super::Controller;
use super::change::{BY_MAX, cut};
use super::rollback::REASON_MAX;
use crate::store::approvals as store;
use crate::{Approval, Approved, Error, Gate, Stage, Verdict};

/// How many people must be for it.
const NEEDED: usize = 2;
/// The most approvals that are looked at.
const LOOKED_MAX: i64 = 100;

impl Controller {
    /// Notes that `by` is for entering `sealed` or `removed`, when it is the next stage. It counts for 24 hours, or as the plan says,
    /// and until the stage changes or is rolled back. A person counts once.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a stage that needs none, or a reason that is not 1 to 500 bytes long; [`Error::Refused`] when it is not
    /// the next stage; the database's failure.
    pub async fn approve(&self, stage: Stage, reason: &str, by: &str) -> Result<Approved, Error> {
        let reason = reason.trim();
        if !(1..=REASON_MAX).contains(&reason.len()) {
            let reason = format!("must be 1 to {REASON_MAX} bytes long");
            return Err(Error::Invalid { field: "reason", reason });
        }
        if !stage.needs_approval() {
            let reason = format!("{stage} needs no approval: sealed and removed do");
            return Err(Error::Invalid { field: "stage", reason });
        }
        let policy = self.policy().await?;
        if policy.ahead(self.planned_tenants()) != Some(stage) {
            return Err(Error::refused(
                format!("stage {stage} is not the next one from {}", policy.stage),
                "approve it when it is: what is approved is the step from there",
            ));
        }
        let migration = &self.0.migration;
        let by = cut(by, BY_MAX);
        store::add(&self.0.pool, migration, stage, (by, reason)).await?;
        tracing::info!(migration, %stage, by, reason, "a step was approved");
        let approvals = self.approvals(stage).await?;
        Ok(Approved { migration: migration.clone(), stage, approvals, needed: NEEDED })
    }

    /// The approvals of a stage that count; none for one that needs none.
    pub(super) async fn approvals(&self, stage: Stage) -> Result<Vec<Approval>, Error> {
        if !stage.needs_approval() {
            return Ok(Vec::new());
        }
        let bounds = (self.evidence_lifetime(), LOOKED_MAX);
        store::counting(&self.0.pool, &self.0.migration, stage, bounds).await
    }

    /// Whether enough people are for it.
    pub(super) async fn approved(&self, stage: Stage) -> Gate {
        let gate = |verdict, found: String| Gate::new("approvals", verdict, found);
        match self.approvals(stage).await {
            Ok(approvals) => {
                let people: Vec<&str> = approvals.iter().map(|approval| approval.by.as_str()).collect();
                let enough = people.len() >= NEEDED;
                let verdict = if enough { Verdict::Pass } else { Verdict::Inconclusive };
                let who = if people.is_empty() { "nobody".to_owned() } else { people.join(", ") };
                gate(verdict, format!("{} of {NEEDED} people are for it: {who}", people.len()))
                    .with(json!({ "approvals": approvals }))
            }
            Err(error) => {
                tracing::warn!(%error, "the approvals could not be read");
                gate(Verdict::Inconclusive, "they could not be read; see the controller's log".to_owned())
            }
        }
    }
}
