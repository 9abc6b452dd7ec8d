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

/// A step forward, as an operator asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Advance {
    /// The stage to enter, or `ramping` again for another ramp.
    pub to: Stage,
    /// Of all keys, how many are born at the target: 0 to 100. Left out: as it is. Only with `ramping`.
    #[serde(default)]
    pub percent: Option<i64>,
    /// Tenants whose keys are all born at the target, at most 1,000. Left out: as they are. Only with `ramping`.
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
        Self { to: stage, percent: None, tenants: None, metric: None, resume: false, dry_run: false }
    }

    /// A ramp to a percent.
    pub const fn ramp(percent: i64) -> Self {
        let mut step = Self::to(Stage::Ramping);
        step.percent = Some(percent);
        step
    }
}

impl Policy {
    /// The policy after a step forward.
    pub(crate) fn advanced(&self, step: &Advance) -> Result<Self, Error> {
        check_values(step)?;
        self.check_stage(step)?;
        let held = match (&self.held, step.resume) {
            (Some(reason), false) => {
                return Err(Error::refused(
                    format!("the migration is held: {reason}"),
                    "see to it, then advance with `--resume`",
                ));
            }
            _ => None,
        };
        let next = Self {
            stage: step.to,
            percent: step.percent.and_then(|it| i16::try_from(it).ok()).unwrap_or(self.percent),
            tenants: step.tenants.clone().unwrap_or_else(|| self.tenants.clone()),
            metric: step.metric.clone().or_else(|| self.metric.clone()),
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
            Stage::Ramping | Stage::Primary if at_target == 0 => Ok(lower(Stage::Following, false)),
            Stage::Ramping | Stage::Primary => Ok(lower(self.stage, true)),
            Stage::Following | Stage::Shadowing | Stage::Reading | Stage::Sealed | Stage::Removed => {
                Err(Error::NotInThisVersion {
                    what: format!("rolling back stage {} with {at_target} keys at the target", self.stage),
                    way_on: "this version rolls back local, following, ramping and primary".to_owned(),
                })
            }
        }
    }

    /// Whether the source's keys are handed to the target, as far as they are quiet.
    pub(crate) fn hands_over(&self) -> bool {
        self.stage == Stage::Primary && !self.draining
    }

    /// Whether a step from here to `next` lets more keys live at the target. Fewer need no gate.
    pub(crate) fn widens(&self, next: &Self) -> bool {
        self.stage != next.stage
            || (self.draining && !next.draining)
            || next.percent > self.percent
            || next.tenants.iter().any(|tenant| !self.tenants.contains(tenant))
    }

    fn check_stage(&self, step: &Advance) -> Result<(), Error> {
        let (from, to) = (self.stage, step.to);
        if !to.in_this_version() {
            return Err(Error::NotInThisVersion {
                what: format!("stage {to}"),
                way_on: "it can enter local, following, ramping and primary".to_owned(),
            });
        }
        if to < from {
            return Err(Error::refused(
                format!("stage {to} is before {from}"),
                "go back with `banyan rollback`",
            ));
        }
        // A stage that is being rolled back may be entered again.
        if to == from && to != Stage::Ramping && !self.draining {
            return Err(Error::refused(format!("it is in stage {to} already"), way_on(from)));
        }
        if to > from && from.next() != Some(to) {
            return Err(Error::refused(format!("stage {to} is not entered from {from}"), way_on(from)));
        }
        let ramped = self.percent == 100 || !self.tenants.is_empty();
        if from == Stage::Ramping && to == Stage::Primary && !ramped {
            return Err(Error::refused(
                format!(
                    "stage primary is entered from a ramp of 100 % or of named tenants, not of {} %",
                    self.percent
                ),
                "ramp further: `banyan advance --to ramping --percent 100`",
            ));
        }
        Ok(())
    }
}

fn way_on(from: Stage) -> String {
    match from.next() {
        Some(next) => format!("the next stage is {next}: `banyan advance --to {next}`"),
        None => "there is no later stage in this version; go back with `banyan rollback`".to_owned(),
    }
}

fn check_values(step: &Advance) -> Result<(), Error> {
    let invalid = |field, reason: String| Err(Error::Invalid { field, reason });
    if step.to != Stage::Ramping && step.percent.is_some() {
        return invalid("percent", format!("only stage ramping has one, not {}", step.to));
    }
    if step.to != Stage::Ramping && step.tenants.as_ref().is_some_and(|tenants| !tenants.is_empty()) {
        return invalid("tenants", format!("only stage ramping has them, not {}", step.to));
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
