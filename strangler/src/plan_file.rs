//! The plan of a migration, `migration.toml`: why it is done, until when, and what its gates ask for. No I/O.
//! `docs/plan.md` shows each field.

mod check;
mod toml;

use serde::{Deserialize, Serialize};
use time::{Date, OffsetDateTime};

use crate::Error;

/// A plan that was read and does not contradict itself.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanFile {
    /// Whose plan it is, and with whom the ramp ends.
    pub migration: Named,
    /// Why, and until when.
    pub business: Business,
    /// What the gates ask for.
    pub thresholds: Thresholds,
}

/// `[migration]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// The migration's name.
    pub name: String,
    /// Tenants with whom the ramp is whole. Left out: 100 % of all keys.
    #[serde(default)]
    pub tenants: Vec<String>,
}

/// `[business]`: what the migration is for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Business {
    /// The metric that must improve, with its unit, 1 to 200 bytes.
    pub metric: String,
    /// What it is now.
    pub baseline: f64,
    /// What it must become; another number than the baseline.
    pub target: f64,
    /// What must not get worse meanwhile, 1 to 200 bytes.
    pub guardrail: String,
    /// Who answers for it, 1 to 200 bytes.
    pub owner: String,
    /// The last day on which a step forward may be taken, in UTC.
    #[serde(with = "day")]
    pub decide_by: Date,
}

/// `[thresholds]`: what the gates ask for. Each has a default; none can be set so low that its gate passes without data.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Thresholds {
    /// Compared reads, at least 1. Default 1,000.
    pub reads_min: u64,
    /// Compared decisions, at least 1. Default 1,000.
    pub decisions_min: u64,
    /// Of the cohort's reads, the percent that may fall back to the source for lag, errors or a copy that is not whole, 0 to 100.
    /// Default 1.
    pub stale_reads_percent_max: f64,
    /// How long evidence, approvals and counts of reads and decisions count, 1 to 168 hours. Default 24.
    pub evidence_hours: u32,
    /// Whether seeded mutants must be caught: `true`, for a gate can't be waived.
    pub mutants: bool,
    /// The percent that may be ramped to before a rollback was drilled, 0 to 100; `primary` is 100. Default 0: named tenants only.
    pub first_ramp_percent_max: i16,
    /// How long `primary` lasts without a rollback or a hold before `sealed`: a business cycle, at least 1 second. Default a
    /// week.
    pub cycle_seconds: u32,
    /// How long nothing may have touched the source's tables before `removed`, 1 to 365 days. Default 7.
    pub verify_days: u32,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            reads_min: 1_000,
            decisions_min: 1_000,
            stale_reads_percent_max: 1.0,
            evidence_hours: 24,
            mutants: true,
            first_ramp_percent_max: 0,
            cycle_seconds: 7 * 24 * 3_600,
            verify_days: 7,
        }
    }
}

impl PlanFile {
    /// Reads a plan, and checks it as far as it can be checked without a clock.
    ///
    /// # Errors
    /// [`Error::Plan`] with the first field that is missing, unknown, outside its bounds or in contradiction to another, and
    /// what to write instead.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut file = toml::read(text)?;
        toml::refuse_dual_write(&file)?;
        let plan = Self {
            migration: toml::section(&mut file, "migration")?,
            business: toml::section(&mut file, "business")?,
            thresholds: toml::section_or_default(&mut file, "thresholds")?,
        };
        toml::refuse_others(&file)?;
        check::check(&plan)?;
        Ok(plan)
    }

    /// Whether the last day for a step forward is over.
    pub fn is_overdue(&self, now: OffsetDateTime) -> bool {
        now.to_offset(time::UtcOffset::UTC).date() > self.business.decide_by
    }

    /// What it is for, in a line.
    pub fn says(&self) -> String {
        let Business { metric, baseline, target, owner, decide_by, .. } = &self.business;
        format!("{metric}: from {baseline} to {target} by {decide_by}, for {owner}")
    }
}

/// A day as `2027-03-31`.
mod day {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};
    use time::Date;
    use time::format_description::well_known::Iso8601;

    pub(super) fn serialize<S: Serializer>(day: &Date, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(day)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Date, D::Error> {
        let text = String::deserialize(deserializer)?;
        Date::parse(&text, &Iso8601::DATE)
            .map_err(|_| D::Error::custom(format!("{text:?} is no day such as 2027-03-31")))
    }
}

#[cfg(test)]
mod tests;
