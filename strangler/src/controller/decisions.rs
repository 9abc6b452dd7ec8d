//! Gates by what the target decided in the source's shadow.

use serde_json::json;
use time::{Duration, OffsetDateTime};
use tokio::time::timeout;

use super::Controller;
use super::reads::COMPARABLE_PERCENT_MIN;
use crate::gate::{Gate, Verdict};
use crate::policy::Policy;
use crate::store::policy as policies;
use crate::{BoxError, DecisionClass, Decisions, MutantCount, ProviderAccess, Stage};

/// The gates, the one into `shadowing` first.
const NAMES: [&str; 4] = ["provider_denied", "decisions", "coverage", "mutants"];
/// How many samples, outcomes or mutants a gate names.
const NAMED_MAX: usize = 5;
/// With 95 % confidence not more than this over n is different, when none of n is.
const BOUND: u32 = 3;

/// What was found by the build of the target that answers.
struct Shown {
    /// As long ago as evidence counts.
    found: Result<Decisions, String>,
    /// Of that, since the migration was held last.
    lately: Result<Decisions, String>,
    /// What the source's decisions came to.
    outcomes: Result<Vec<String>, String>,
}

impl Controller {
    /// What the target decided itself, as gates out of the stage of `policy`: out of one before `shadowing` only that it could have no
    /// effect outside. All of it counts as long as evidence does; decisions and what they cover only since the migration was held
    /// last, so that after a mend the operator begins anew. A mutant that was missed is mended by another build only.
    pub(super) async fn decisions_shown(&self, policy: &Policy) -> Vec<Gate> {
        let begun = policy.stage >= Stage::Shadowing;
        if !self.0.domain.decides() {
            return NAMES.into_iter().take(if begun { NAMES.len() } else { 1 }).map(undecided).collect();
        }
        let thresholds = self.thresholds();
        let oldest = OffsetDateTime::now_utc() - Duration::hours(i64::from(thresholds.evidence_hours));
        let found = self.decided(oldest).await;
        let mut gates = vec![provider_denied(found.as_ref().map(|found| found.provider))];
        if !begun {
            return gates;
        }
        let lately = match policies::held_last(&self.0.pool, &self.0.migration).await {
            Ok(Some(held)) if held > oldest => self.decided(held).await,
            Ok(_) => found.clone(),
            Err(error) => Err(error.to_string()),
        };
        let outcomes = self.outcomes().await.map_err(|error| error.to_string());
        gates.extend(judged(&Shown { found, lately, outcomes }, thresholds.decisions_min));
        gates
    }

    async fn decided(&self, since: OffsetDateTime) -> Result<Decisions, String> {
        self.ask(self.0.peer.decisions(since)).await.map_err(|error| error.to_string())
    }

    async fn outcomes(&self) -> Result<Vec<String>, BoxError> {
        let bound = self.0.settings.ask_timeout;
        match timeout(bound, self.0.domain.outcomes()).await {
            Ok(outcomes) => outcomes,
            Err(_) => Err(format!("no answer within {} ms", bound.as_millis()).into()),
        }
    }
}

fn judged(shown: &Shown, decisions_min: u64) -> [Gate; 3] {
    let Shown { found, lately, outcomes } = shown;
    let outcomes = outcomes.as_deref();
    let of = |name: &str, found: &Result<Decisions, String>, judge: &dyn Fn(&Decisions) -> Gate| match found {
        Ok(found) => judge(found),
        Err(error) => unasked(name, error),
    };
    [
        of("decisions", lately, &|lately| compared(lately, decisions_min)),
        of("coverage", lately, &|lately| covered(lately, outcomes)),
        of("mutants", found, &|found| caught(found, outcomes)),
    ]
}

fn undecided(name: &str) -> Gate {
    Gate::new(name, Verdict::Pass, "the domain decides nothing: it stores what it is told")
}

fn unasked(name: &str, error: &str) -> Gate {
    Gate::new(name, Verdict::Inconclusive, format!("could not be asked: {error}"))
}

fn provider_denied(found: Result<Option<ProviderAccess>, &String>) -> Gate {
    let name = "provider_denied";
    match found {
        Ok(Some(ProviderAccess::Denied)) => Gate::new(
            name,
            Verdict::Pass,
            "no key is the target's, and without one it makes no client of its provider",
        ),
        Ok(Some(ProviderAccess::Usable)) => {
            Gate::new(name, Verdict::Fail, "the target could have an effect at its provider")
        }
        Ok(None) => Gate::new(
            name,
            Verdict::Inconclusive,
            "the target does not say whether it could reach its provider",
        ),
        Err(error) => unasked(name, error),
    }
}

/// No tolerance: one cent is a difference.
fn compared(found: &Decisions, least: u64) -> Gate {
    let (money, structure) = (found.of(DecisionClass::Money), found.of(DecisionClass::Structure));
    let (compared, undecidable) = (found.compared(), found.of(DecisionClass::Undecidable));
    let gate = |verdict, said: String| {
        Gate::new("decisions", verdict, said).with(json!({
            "compared": compared, "money": money, "structure": structure, "undecidable": undecidable,
            "least": least, "target_version": found.version,
        }))
    };
    if money > 0 || structure > 0 {
        let differs = |class| class == DecisionClass::Money || class == DecisionClass::Structure;
        let such_as = found.samples.iter().filter(|sample| differs(sample.class)).take(NAMED_MAX);
        let such_as: Vec<String> = such_as
            .map(|sample| format!("{} at version {}: {}", sample.key, sample.version, sample.text))
            .collect();
        let said = format!(
            "of {compared} decisions {money} differ in money and {structure} in structure: {}",
            such_as.join(", ")
        );
        return gate(Verdict::Fail, said);
    }
    let rest = format!("{undecidable} could not be compared");
    // A plan can't ask for none.
    if compared < least.max(1) {
        return gate(Verdict::Inconclusive, format!("{compared} of {least} decisions compared; {rest}"));
    }
    let all = compared.saturating_add(undecidable);
    if compared.saturating_mul(100) < all.saturating_mul(COMPARABLE_PERCENT_MIN) {
        let said = format!("only {compared} of {all} decisions could be compared: those may be a chosen few");
        return gate(Verdict::Inconclusive, said);
    }
    gate(
        Verdict::Pass,
        format!("{compared} decisions compared, none differs (bound {BOUND}/{compared}); {rest}"),
    )
}

/// Each kind of outcome that the source had must have been compared.
fn covered(found: &Decisions, outcomes: Result<&[String], &String>) -> Gate {
    let name = "coverage";
    let outcomes = match outcomes {
        Ok(outcomes) => outcomes,
        Err(error) => return unasked(name, error),
    };
    if outcomes.is_empty() {
        return Gate::new(name, Verdict::Inconclusive, "the source decided nothing in the last 7 days");
    }
    let missing: Vec<&str> =
        outcomes.iter().map(String::as_str).filter(|outcome| !found.covers(outcome)).collect();
    let evidence = json!({ "outcomes": outcomes, "missing": missing });
    if missing.is_empty() {
        let said = format!("each of {} outcomes of the last 7 days was compared", outcomes.len());
        return Gate::new(name, Verdict::Pass, said).with(evidence);
    }
    let named = missing.get(..NAMED_MAX.min(missing.len())).unwrap_or_default().join(", ");
    let said = format!("{} of {} outcomes were not compared yet: {named}", missing.len(), outcomes.len());
    Gate::new(name, Verdict::Inconclusive, said).with(evidence)
}

/// A comparison that misses a mutant sees nothing. One that had nothing to run on shows nothing, unless the source has no such
/// outcome either.
fn caught(found: &Decisions, outcomes: Result<&[String], &String>) -> Gate {
    let gate = |verdict, said: String| {
        let numbers = |mutant: &MutantCount| json!({ "name": mutant.name, "caught": mutant.caught, "missed": mutant.missed });
        let mutants: Vec<_> = found.mutants.iter().map(numbers).collect();
        Gate::new("mutants", verdict, said).with(json!({ "mutants": mutants }))
    };
    let named = |mutants: &[&MutantCount]| {
        let names: Vec<&str> = mutants.iter().take(NAMED_MAX).map(|mutant| mutant.name.as_str()).collect();
        names.join(", ")
    };
    let missed: Vec<&MutantCount> = found.mutants.iter().filter(|mutant| mutant.missed > 0).collect();
    if !missed.is_empty() {
        return gate(
            Verdict::Fail,
            format!("the comparison did not tell wrong decisions: {}", named(&missed)),
        );
    }
    let (seen, unseen): (Vec<&MutantCount>, Vec<&MutantCount>) =
        found.mutants.iter().partition(|mutant| mutant.caught > 0);
    if seen.is_empty() {
        return gate(Verdict::Inconclusive, "no mutant has run".to_owned());
    }
    // Who can't say what its decisions come to might have every outcome.
    let could_run = |mutant: &&MutantCount| {
        outcomes.is_err()
            || outcomes.is_ok_and(|had| mutant.outcomes.iter().any(|outcome| had.contains(outcome)))
    };
    let (owed, spared): (Vec<&MutantCount>, Vec<&MutantCount>) = unseen.into_iter().partition(could_run);
    if !owed.is_empty() {
        return gate(Verdict::Inconclusive, format!("mutants that have not run yet: {}", named(&owed)));
    }
    let times = seen.iter().fold(0_u64, |sum, mutant| sum.saturating_add(mutant.caught));
    let mut said = format!("{} mutants were caught, {times} times", seen.len());
    if !spared.is_empty() {
        said.push_str(&format!("; the source has nothing to run these on: {}", named(&spared)));
    }
    gate(Verdict::Pass, said)
}

#[cfg(test)]
mod tests;
