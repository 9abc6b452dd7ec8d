//! The rules of a plan.

use super::toml::wrong;
use super::{Business, Named, PlanFile, Thresholds};
use crate::Error;

/// The longest line of text, in bytes.
const TEXT_BYTES_MAX: usize = 200;
/// The longest name of a migration.
const NAME_MAX: usize = 60;
/// The most tenants, as in a policy.
const TENANTS_MAX: usize = 1_000;
/// The longest tenant, in bytes.
const TENANT_BYTES_MAX: usize = 255;
/// Evidence that is older says little about today.
const EVIDENCE_HOURS_MAX: u32 = 168;
/// The longest quiet time before the source's tables go.
const VERIFY_DAYS_MAX: u32 = 365;

pub(super) fn check(plan: &PlanFile) -> Result<(), Error> {
    migration(&plan.migration)?;
    business(&plan.business)?;
    thresholds(&plan.thresholds)
}

fn migration(named: &Named) -> Result<(), Error> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
    if !(1..=NAME_MAX).contains(&named.name.len()) || !named.name.bytes().all(plain) {
        let found = format!("{:?} is no migration's name", named.name);
        return Err(wrong("migration.name", found, "write 1 to 60 of a-z, 0-9, _ and -"));
    }
    let fits = |tenant: &String| (1..=TENANT_BYTES_MAX).contains(&tenant.len());
    if named.tenants.len() > TENANTS_MAX || !named.tenants.iter().all(fits) {
        let found = format!("{} tenants, or one that is empty or too long", named.tenants.len());
        return Err(wrong("migration.tenants", found, "name at most 1,000, each of 1 to 255 bytes"));
    }
    Ok(())
}

fn business(business: &Business) -> Result<(), Error> {
    let Business { metric, baseline, target, guardrail, owner, .. } = business;
    for (field, text) in
        [("business.metric", metric), ("business.guardrail", guardrail), ("business.owner", owner)]
    {
        if !(1..=TEXT_BYTES_MAX).contains(&text.trim().len()) {
            return Err(wrong(field, "empty or too long", "write 1 to 200 bytes"));
        }
    }
    if metric.trim() == guardrail.trim() {
        let way_on = "name what must not get worse while the metric improves";
        return Err(wrong("business.guardrail", "it is the metric itself", way_on));
    }
    for (field, number) in [("business.baseline", baseline), ("business.target", target)] {
        if !number.is_finite() {
            return Err(wrong(
                field,
                format!("{number} is no number to compare with"),
                "write what was measured",
            ));
        }
    }
    if baseline.total_cmp(target).is_eq() {
        let found = format!("it equals the baseline, {baseline}: nothing would improve");
        return Err(wrong("business.target", found, "name what the metric must become, or don't migrate"));
    }
    Ok(())
}

fn thresholds(thresholds: &Thresholds) -> Result<(), Error> {
    let Thresholds {
        reads_min,
        decisions_min,
        stale_reads_percent_max,
        evidence_hours,
        mutants,
        first_ramp_percent_max,
        cycle_seconds,
        verify_days,
    } = *thresholds;
    let no_data = "0 would let a gate pass without data";
    let rules = [
        ("reads_min", reads_min >= 1, no_data, "write 1 or more"),
        ("decisions_min", decisions_min >= 1, no_data, "write 1 or more"),
        (
            "stale_reads_percent_max",
            (0.0..=100.0).contains(&stale_reads_percent_max),
            "no percent",
            "write 0 to 100",
        ),
        (
            "evidence_hours",
            (1..=EVIDENCE_HOURS_MAX).contains(&evidence_hours),
            "evidence would never count, or for too long",
            "write 1 to 168",
        ),
        ("mutants", mutants, "a gate is not waived", "write true, or leave it out"),
        (
            "first_ramp_percent_max",
            (0..=100).contains(&first_ramp_percent_max),
            "no percent",
            "write 0 to 100",
        ),
        ("cycle_seconds", cycle_seconds >= 1, no_data, "write how long a business cycle lasts, in seconds"),
        ("verify_days", (1..=VERIFY_DAYS_MAX).contains(&verify_days), no_data, "write 1 to 365"),
    ];
    match rules.into_iter().find(|(_, holds, ..)| !holds) {
        None => Ok(()),
        Some((field, _, found, way_on)) => Err(wrong(format!("thresholds.{field}"), found, way_on)),
    }
}
