//! The policy of a migration, and which step from it is allowed. No I/O.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{Error, Stage};

/// The most tenants that a policy names.
const TENANTS_MAX: usize = 1_000;
/// The longest tenant, in bytes.
const TENANT_BYTES_MAX: usize = 255;
/// The longest name of a metric, in bytes.
const METRIC_BYTES_MAX: usize = 200;
/// The way on from a hold.
pub(crate) const LIFTS: &str = "see to it; `banyan advance --resume` lifts the hold";

/// A step forward, as an operator asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Advance {
    /// The stage to enter, or `reading` or `ramping` again for another cohort. Left out, only with `resume`: none is entered, and what
    /// is being rolled back still is.
    #[serde(default)]
    pub to: Option<Stage>,
    /// Of all keys, how many are read at the target (`reading`) or born there (`ramping`): 0 to 100. Left out: as it is in
    /// that stage, 0 when it is entered. Only with these two.
    #[serde(default)]
    pub percent: Option<i64>,
    /// Tenants of whom all keys are, at most 1,000. Left out: as they are in that stage, none when it is entered.
    #[serde(default)]
    pub tenants: Option<Vec<String>>,
    /// The business metric that must improve, 1 to 200 bytes. Kept once it is named.
    #[serde(default)]
    pub metric: Option<String>,
    /// Lifts a hold.
    #[serde(default)]
    pub resume: bool,
    /// Asks the gates and changes nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// A policy as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Policy {
    #[sqlx(try_from = "String")]
    pub(crate) stage: Stage,
    pub(crate) percent: i16,
    pub(crate) tenants: Vec<String>,
    pub(crate) salt: String,
    pub(crate) metric: Option<String>,
    pub(crate) draining: bool,
    pub(crate) held: Option<String>,
    pub(crate) revision: i64,
    pub(crate) changed_at: OffsetDateTime,
}

impl TryFrom<String> for Stage {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse().map_err(|_| Error::stored("stage", &text))
    }
}

impl Advance {
    /// A step to a stage, with nothing else.
    pub const fn to(stage: Stage) -> Self {
        Self { to: Some(stage), percent: None, tenants: None, metric: None, resume: false, dry_run: false }
    }

    /// Lifts a hold and enters nothing: what the policy lets be done goes on.
    pub const fn resume() -> Self {
        Self { to: None, percent: None, tenants: None, metric: None, resume: true, dry_run: false }
    }

    /// A ramp to a percent.
    pub const fn ramp(percent: i64) -> Self {
        let mut step = Self::to(Stage::Ramping);
        step.percent = Some(percent);
        step
    }
}

impl Policy {
    /// The policy after a step forward. `planned` are the tenants with whom the ramp ends, by the plan; none: with 100 %.
    pub(crate) fn advanced(&self, step: &Advance, planned: &[String]) -> Result<Self, Error> {
        check_values(step)?;
        let metric = step.metric.clone().or_else(|| self.metric.clone());
        let Some(to) = step.to else {
            return match &self.held {
                Some(_) => Ok(Self { held: None, metric, ..self.clone() }),
                None => Err(Error::refused("the migration is not held", way_on(self.stage))),
            };
        };
        self.check_stage(to, planned)?;
        let held = match (&self.held, step.resume) {
            (Some(reason), false) => {
                return Err(Error::refused(format!("the migration is held: {reason}"), LIFTS));
            }
            _ => None,
        };
        // Reads and births are other things: who widened one has not asked for the other.
        let anew = to.has_cohort() && to != self.stage;
        let (percent, tenants) = if anew { (0, Vec::new()) } else { (self.percent, self.tenants.clone()) };
        let next = Self {
            stage: to,
            percent: step.percent.and_then(|it| i16::try_from(it).ok()).unwrap_or(percent),
            tenants: step.tenants.clone().unwrap_or(tenants),
            metric,
            draining: false,
            held,
            ..self.clone()
        };
        if next == *self {
            return Err(Error::refused(
                format!("it is in stage {} with this percent and these tenants already", self.stage),
                "name another percent or other tenants",
            ));
        }
        Ok(next)
    }

    /// The policy after `rollback`, when `at_target` keys are not settled at the source.
    pub(crate) fn back(&self, at_target: i64) -> Result<Self, Error> {
        let lower =
            |stage, draining| Self { stage, percent: 0, tenants: Vec::new(), draining, ..self.clone() };
        match self.stage {
            Stage::Local => Err(Error::refused(
                "stage local is the first: there is nothing to roll back",
                "stay, or advance",
            )),
            Stage::Following if at_target == 0 => Ok(lower(Stage::Local, false)),
            Stage::Shadowing | Stage::Reading | Stage::Ramping | Stage::Primary if at_target == 0 => {
                Ok(lower(Stage::Following, false))
            }
            // By the rules only the last two have keys at the target; whichever has some calls them back first.
            Stage::Shadowing | Stage::Reading | Stage::Ramping | Stage::Primary => {
                Ok(lower(self.stage, true))
            }
            Stage::Following => Err(Error::refused(
                format!(
                    "{at_target} keys are not settled at the source, which stage following does not allow"
                ),
                "look where they are (`banyan status`), and report it: no step led there",
            )),
            Stage::Sealed | Stage::Removed => Err(Error::refused(
                format!(
                    "stage {} is not rolled back: the source has lost its rights and its copy",
                    self.stage
                ),
                "the target's snapshots can fill a source again: define a migration the other way",
            )),
        }
    }

    /// Whether the cohort is whole: 100 %, or all tenants that the plan names.
    pub(crate) fn whole(&self, planned: &[String]) -> bool {
        let named = !planned.is_empty() && planned.iter().all(|tenant| self.tenants.contains(tenant));
        self.percent == 100 || named
    }

    /// The stage that the next step enters, or widens; none after the last.
    pub(crate) fn ahead(&self, planned: &[String]) -> Option<Stage> {
        if self.draining || (self.stage.has_cohort() && !self.whole(planned)) {
            return Some(self.stage);
        }
        self.stage.next()
    }

    /// That step, as someone takes it who only looks: to twice the present cohort, or into the next stage; none after the last.
    pub(crate) fn next_step(&self, planned: &[String]) -> Option<Advance> {
        let to = self.ahead(planned)?;
        let mut step = Advance { dry_run: true, resume: true, ..Advance::to(to) };
        if to.has_cohort() && self.stage == to {
            step.percent = Some(i64::from(self.percent).saturating_mul(2).clamp(1, 100));
        }
        Some(step)
    }

    /// Whether the source's keys are handed to the target, as far as they are quiet.
    pub(crate) fn hands_over(&self) -> bool {
        self.stage == Stage::Primary && !self.draining
    }

    /// Whether a step from here to `next` lets more keys be read or live at the target. Fewer need no gate.
    pub(crate) fn widens(&self, next: &Self) -> bool {
        self.stage != next.stage
            || (self.draining && !next.draining)
            || next.percent > self.percent
            || next.tenants.iter().any(|tenant| !self.tenants.contains(tenant))
    }

    fn check_stage(&self, to: Stage, planned: &[String]) -> Result<(), Error> {
        let from = self.stage;
        if to < from {
            return Err(Error::refused(
                format!("stage {to} is before {from}"),
                "go back with `banyan rollback`",
            ));
        }
        // A stage that is being rolled back may be entered again, and one that is held may go on.
        if to == from && !to.has_cohort() && !self.draining && self.held.is_none() {
            return Err(Error::refused(format!("it is in stage {to} already"), way_on(from)));
        }
        if to > from && from.next() != Some(to) {
            return Err(Error::refused(format!("stage {to} is not entered from {from}"), way_on(from)));
        }
        if self.draining && to != from {
            return Err(Error::refused(
                format!("stage {from} is being rolled back: keys are still on their way to the source"),
                format!("wait until the last one is there, or enter it again: `banyan advance --to {from}`"),
            ));
        }
        if from == Stage::Ramping && to == Stage::Primary && !self.whole(planned) {
            let rule = match planned {
                [] => format!("stage primary is entered from a ramp of 100 %, not of {} %", self.percent),
                tenants => format!(
                    "stage primary is entered from a ramp of 100 % or of the plan's tenants ({}), not of {} %",
                    tenants.join(", "),
                    self.percent
                ),
            };
            return Err(Error::refused(rule, "ramp further: `banyan advance --to ramping --percent 100`"));
        }
        Ok(())
    }
}

fn way_on(from: Stage) -> String {
    match from.next() {
        Some(next) => format!("the next stage is {next}: `banyan advance --to {next}`"),
        None => "it is the last stage: the migration is over".to_owned(),
    }
}

fn check_values(step: &Advance) -> Result<(), Error> {
    let invalid = |field, reason: String| Err(Error::Invalid { field, reason });
    if step.to.is_none() && !step.resume {
        return invalid("to", "name the stage to enter; only who lifts a hold may leave it out".to_owned());
    }
    let cohort = step.to.is_some_and(Stage::has_cohort);
    let stage = step.to.map_or("a step that names none", Stage::name);
    if !cohort && step.percent.is_some() {
        return invalid("percent", format!("only stages reading and ramping have one, not {stage}"));
    }
    // For another stage none is as good as left out; who names no stage changes no cohort at all.
    let tenants_named = |tenants: &Vec<String>| step.to.is_none() || !tenants.is_empty();
    if !cohort && step.tenants.as_ref().is_some_and(tenants_named) {
        return invalid("tenants", format!("only stages reading and ramping have them, not {stage}"));
    }
    if let Some(percent) = step.percent.filter(|percent| !(0..=100).contains(percent)) {
        return invalid("percent", format!("{percent} is not 0 to 100"));
    }
    let tenants = step.tenants.as_deref().unwrap_or_default();
    if tenants.len() > TENANTS_MAX {
        return invalid("tenants", format!("{} are more than {TENANTS_MAX}", tenants.len()));
    }
    if tenants.iter().any(|tenant| !(1..=TENANT_BYTES_MAX).contains(&tenant.len())) {
        return invalid("tenants", format!("each must be 1 to {TENANT_BYTES_MAX} bytes long"));
    }
    match &step.metric {
        Some(metric) if !(1..=METRIC_BYTES_MAX).contains(&metric.trim().len()) => {
            invalid("metric", format!("must be 1 to {METRIC_BYTES_MAX} bytes long"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
