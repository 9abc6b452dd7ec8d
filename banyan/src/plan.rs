//! Checks a plan's file, without a server.

use std::path::Path;

use anyhow::Context as _;
use strangler::Error;
use strangler::plan_file::PlanFile;
use time::OffsetDateTime;

use crate::run::Outcome;

/// Whether the file is a plan with which a step forward could be taken today.
pub(crate) fn check(path: &Path, migration: &str, now: OffsetDateTime) -> anyhow::Result<Outcome> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Ok(judge(&text, migration, now))
}

fn judge(text: &str, migration: &str, now: OffsetDateTime) -> Outcome {
    let refused = |rule: &str, way_on: &str| Outcome {
        text: format!("refused: {rule}\nway on: {way_on}\n"),
        refused: true,
    };
    match PlanFile::parse(text) {
        Err(Error::Plan { field, wrong, way_on }) => refused(&format!("{field}: {wrong}"), &way_on),
        Err(error) => refused(&error.to_string(), "write it as docs/plan.md shows"),
        Ok(plan) if plan.migration.name != migration => refused(
            &format!("migration.name: it is {:?}, not {migration:?}", plan.migration.name),
            "name the migration that you mean with `--migration`",
        ),
        Ok(plan) if plan.is_overdue(now) => refused(
            &format!("business.decide_by: {} is past", plan.business.decide_by),
            "decide: go back, or name another day",
        ),
        Ok(plan) => Outcome { text: format!("plan of {migration}: {}\n", plan.says()), refused: false },
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::judge;

    const PLAN: &str = include_str!("../../deploy/migration.toml");

    #[test]
    fn a_plan_is_said_back_and_what_is_wrong_comes_with_the_way_on() {
        let now = datetime!(2027-01-01 0:00 UTC);
        let good = judge(PLAN, "payments", now);
        assert!(
            !good.refused && good.text.starts_with("plan of payments: p99 of POST /v1/orders"),
            "{}",
            good.text
        );
        let cases = [
            (judge(PLAN, "prices", now), "migration.name: it is \"payments\""),
            (
                judge(PLAN, "payments", datetime!(2100-01-01 0:00 UTC)),
                "business.decide_by: 2099-12-31 is past",
            ),
            (
                judge(&PLAN.replace("target = 120", "target = 180"), "payments", now),
                "business.target: it equals",
            ),
            (judge("dual_write = true", "payments", now), "dual_write: there is no such policy"),
        ];
        for (outcome, text) in cases {
            assert!(outcome.refused && outcome.text.contains("\nway on: "), "{}", outcome.text);
            assert!(outcome.text.contains(text), "{} lacks {text}", outcome.text);
        }
    }
}
