//! Steps forward, behind gates.

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::Controller;
use super::change::{BY_MAX, cut};
use crate::gate::{Gate, Verdict};
use crate::policy::{LIFTS, Policy};
use crate::store::{backfill, keys, policy::Entry};
use crate::{Advance, Change, Error, Plan, PolicyView, Refusal, Stage, Step};

impl Controller {
    /// What could come next, with the gates as they are found now. Without a percent to go by, the next cohort is twice the
    /// present one.
    ///
    /// # Errors
    /// As [`Controller::advance`], but never a refusal.
    pub async fn plan(&self) -> Result<Plan, Error> {
        let policy = self.policy().await?;
        let last = || Advance { dry_run: true, ..Advance::to(policy.stage) };
        let step = policy.next_step(self.planned_tenants()).unwrap_or_else(last);
        let mut next = self.advance(&step, "plan").await?;
        if let (Some(held), None) = (&policy.held, &next.refused) {
            next.refused = Some(Refusal {
                rule: format!("the migration is held: {held}"),
                way_on: LIFTS.to_owned(),
                gates: Vec::new(),
            });
        }
        let way_back = self.way_back(&policy).await;
        Ok(Plan { migration: self.0.migration.clone(), policy: PolicyView::from(&policy), next, way_back })
    }

    /// Takes a step forward on behalf of `by`, or, with `dry_run`, says what it would do. A step that lets more keys be
    /// read, or live, at the target must pass its gates.
    ///
    /// # Errors
    /// [`Error::Refused`] when a rule or a gate says no (a dry run answers with the refusal instead),
    /// [`Error::Invalid`]; [`Error::Changed`] and [`Error::Busy`] may be tried again; and the
    /// domain's and the database's failures.
    pub async fn advance(&self, step: &Advance, by: &str) -> Result<Step, Error> {
        let policy = self.policy().await?;
        let next = match self.stepped(&policy, step) {
            Ok(next) => next,
            Err(Error::Refused(refusal)) if step.dry_run => {
                let to = Change { stage: step.to.unwrap_or(policy.stage), ..Change::from(&policy) };
                return Ok(self.answer(&policy, to, Vec::new(), Some(refusal)).await);
            }
            Err(error) => return Err(error),
        };
        let gates = Box::pin(self.gates(&policy, &next)).await;
        let refused = refusal(&gates, next.stage);
        if step.dry_run {
            return Ok(self.answer(&policy, Change::from(&next), gates, refused).await);
        }
        if let Some(refusal) = refused {
            return Err(Error::Refused(refusal));
        }
        let (seeded, next) = self.enter(&policy, &next, &gates, by).await?;
        let mut answer = self.answer(&policy, Change::from(&next), gates, None).await;
        (answer.entered, answer.seeded, answer.revision) = (true, seeded, next.revision);
        Ok(answer)
    }

    /// The policy after a step, as the rules and the plan have it.
    pub(super) fn stepped(&self, policy: &Policy, step: &Advance) -> Result<Policy, Error> {
        policy.advanced(&self.by_plan(step)?, self.planned_tenants())
    }

    /// The step with the plan's metric, which is the migration's.
    fn by_plan(&self, step: &Advance) -> Result<Advance, Error> {
        let Some(plan) = &self.0.settings.plan else { return Ok(step.clone()) };
        let planned = &plan.business.metric;
        if step.metric.as_ref().is_some_and(|metric| metric != planned) {
            let reason =
                format!("the plan names {planned:?}: leave it out, or change `business.metric` there");
            return Err(Error::Invalid { field: "metric", reason });
        }
        // Who only lifts a hold changes nothing else.
        let metric = step.to.map(|_| planned.clone()).or_else(|| step.metric.clone());
        Ok(Advance { metric, ..step.clone() })
    }

    /// Changes the policy. Entering `following` seeds first: outside the lock, then looks again under it. A hold is lifted in any
    /// stage, and that enters none.
    async fn enter(
        &self,
        from: &Policy,
        next: &Policy,
        gates: &[Gate],
        by: &str,
    ) -> Result<(i64, Policy), Error> {
        let evidence = self.evidence(gates);
        let enters = from.stage != next.stage;
        let seeds = enters && from.stage == Stage::Local;
        let mut seeded = 0;
        let mut left_out = String::new();
        for _ in 0..self.0.settings.seed_rounds_max.max(1) {
            if seeds {
                seeded += self.seeding().run().await?;
            }
            let (mut tx, locked) = self.begin().await?;
            if locked.revision != from.revision {
                return Err(Error::Changed(self.0.migration.clone()));
            }
            if seeds && let Some(key) = self.left_out(&mut tx).await? {
                tx.rollback().await?;
                self.seeding().restart().await?;
                left_out = key;
                continue;
            }
            if seeds {
                backfill::begin(&mut *tx, &self.0.migration, cut(by, BY_MAX)).await?;
            }
            if enters && next.stage == Stage::Sealed {
                self.seal(&mut tx).await?;
            }
            let entry = Entry { action: "advance", by, reason: "", evidence: &evidence };
            return Ok((seeded, self.commit(tx, from, next.clone(), entry).await?));
        }
        Err(Error::refused(
            format!("keys appear without an owner, such as {left_out}"),
            "let the module that creates keys assign their owner in the same transaction, then advance again",
        ))
    }

    /// What a line of history says of the gates.
    fn evidence(&self, gates: &[Gate]) -> Value {
        let now = OffsetDateTime::now_utc();
        json!({
            "id": uuid::Uuid::now_v7(),
            "at": now.unix_timestamp(),
            "expires_at": (now + self.evidence_lifetime()).unix_timestamp(),
            "version": self.0.settings.version,
            "cites": cites(gates),
            "gates": gates,
        })
    }

    async fn answer(&self, from: &Policy, to: Change, gates: Vec<Gate>, refused: Option<Refusal>) -> Step {
        let moves = match to.stage {
            Stage::Local => "moves no key",
            Stage::Following => "gives each key an owner; moves no key",
            Stage::Shadowing => "compares; moves no key",
            Stage::Reading => "sends reads to the target; moves no key",
            Stage::Ramping => "births only; moves no key",
            Stage::Primary => "hands each key over once it is quiet",
            Stage::Sealed => "retires the source's copy; moves no key",
            Stage::Removed => "lets the source's copy be deleted; moves no key",
        };
        let after = Policy { stage: to.stage, ..from.clone() };
        Step {
            migration: self.0.migration.clone(),
            entered: false,
            from: Change::from(from),
            to,
            moves: moves.to_owned(),
            way_back: self.way_back(&after).await,
            gates,
            refused,
            seeded: 0,
            revision: from.revision,
        }
    }

    /// What `rollback` does from a policy, in a phrase. Never an error: the step it belongs to may be committed already.
    async fn way_back(&self, policy: &Policy) -> String {
        match policy.stage {
            Stage::Local => return "none: this is the first stage".to_owned(),
            Stage::Following => return "banyan rollback (to local; no key has moved)".to_owned(),
            Stage::Shadowing | Stage::Reading => {
                return "banyan rollback (to following at once; no key has moved)".to_owned();
            }
            Stage::Sealed | Stage::Removed => {
                return "none: the source has lost its copy; a migration the other way fills one".to_owned();
            }
            Stage::Ramping | Stage::Primary => {}
        }
        match keys::count_away(&self.0.pool, &self.0.migration).await {
            Ok(0) => "banyan rollback (births to source; no key is at the target)".to_owned(),
            Ok(away) => format!("banyan rollback (births to source at once; {away} keys are called back)"),
            Err(error) => {
                tracing::warn!(%error, "the keys at the target could not be counted");
                "banyan rollback (births to source at once; keys at the target are called back)".to_owned()
            }
        }
    }
}

fn refusal(gates: &[Gate], stage: Stage) -> Option<Refusal> {
    let worst = gates.iter().max_by_key(|gate| gate.verdict).filter(|gate| gate.verdict != Verdict::Pass)?;
    let word = match worst.verdict {
        Verdict::Fail => "failed",
        Verdict::Pass | Verdict::Inconclusive => "is inconclusive",
    };
    let failed = worst.verdict == Verdict::Fail;
    let way_on = match worst.name.as_str() {
        "plan" => {
            "decide: `banyan rollback`, or write another `decide_by` into the plan and restart the controller"
        }
        "metric" => "name it: `--metric \"p99 of checkout\"`",
        "target_healthy" => "start the target, or see its log, then advance again",
        "parity" => {
            "`banyan parity` compares the copies and names those that differ; `banyan repair KEY` mends one"
        }
        "backfill" => "`banyan backfill` begins one; `banyan status` tells how far it is",
        "drill" => {
            "drill it: ramp to a tenant with `--percent 0 --tenant T`, let it order, `banyan rollback`, wait for stage \
             following, and come here again"
        }
        "approvals" => "two people must be for it: `banyan approve --stage STAGE --reason \"..\"`",
        "cycle" => {
            "wait; a rollback or a hold begins it again, once that is over (`banyan advance --resume` lifts a hold)"
        }
        "invariants" => "mend what is broken before any step",
        "pinned" | "at_source" => "`banyan pinned` says what keeps a key; see to it, then advance again",
        "left_open" => "see to each at the source, where nobody can once it is sealed, then advance again",
        "verify" => "see to each touch that it names, then advance again",
        "provider_denied" => "the target must own no key and make no client of its provider; see its log",
        "decisions" if failed => {
            "mend what differs, then `banyan hold` and `banyan advance --resume` begin to count anew; \
             the samples at the target (docs/shadow.md) say what differs"
        }
        "mutants" if failed => "mend the target's comparison: another build of it counts anew",
        "decisions" | "coverage" | "mutants" => {
            "let more orders come, or make one of each outcome that it names; the samples at the target \
             (docs/shadow.md) say why one could not be compared"
        }
        "reads" if failed => {
            "mend it (`strangler.read_sample` has what differs, `banyan repair KEY` mends a copy), then `banyan rollback` \
             and enter shadowing again: it counts anew"
        }
        "reads" => "let more reads come, or see why the target's copies can't be compared (`banyan status`)",
        "stale_reads" => {
            "let more reads come, or make the feed faster; what is older than evidence counts no more"
        }
        _ => "let it catch up, or see what waits there (`banyan status`), then advance again",
    };
    Some(Refusal {
        rule: format!("gate `{}` of stage {stage} {word}: {}", worst.name, worst.found),
        way_on: way_on.to_owned(),
        gates: gates.to_vec(),
    })
}

/// The ids of what the gates were passed by, if it was kept: evidence, and approvals.
fn cites(gates: &[Gate]) -> Vec<&str> {
    let mut ids = Vec::new();
    for Gate { evidence, .. } in gates {
        let approvals = evidence.get("approvals").and_then(Value::as_array);
        let kept = std::iter::once(evidence).chain(approvals.into_iter().flatten());
        ids.extend(kept.filter_map(|kept| kept.get("id").and_then(Value::as_str)));
    }
    ids
}
