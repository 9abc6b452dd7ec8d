use time::macros::datetime;

use super::{PlanFile, Thresholds};

const PLAN: &str = r#"
[migration]
name = "prices"

[business]
metric = "p99 of checkout, in ms"
baseline = 180
target = 120.5
guardrail = "declines stay under 2 %"
owner = "prices team"
decide_by = 2027-03-31
"#;

fn refused(text: &str) -> String {
    match PlanFile::parse(text) {
        Ok(plan) => panic!("it was taken: {plan:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_whole_plan_is_read_and_thresholds_have_defaults() {
    let plan = PlanFile::parse(PLAN).unwrap();
    assert_eq!(plan.thresholds, Thresholds::default());
    assert_eq!(plan.says(), "p99 of checkout, in ms: from 180 to 120.5 by 2027-03-31, for prices team");
    let quoted = PLAN.replace("2027-03-31", "\"2027-03-31\"");
    assert_eq!(PlanFile::parse(&quoted).unwrap(), plan);
    let low = format!("{PLAN}[thresholds]\nreads_min = 1\nstale_reads_percent_max = 5\n");
    let low = PlanFile::parse(&low).unwrap().thresholds;
    assert_eq!((low.reads_min, low.stale_reads_percent_max, low.decisions_min), (1, 5.0, 1_000));
}

#[test]
fn the_last_day_is_still_in_time() {
    let plan = PlanFile::parse(PLAN).unwrap();
    assert!(!plan.is_overdue(datetime!(2027-03-31 23:59:59 UTC)));
    assert!(plan.is_overdue(datetime!(2027-04-01 00:00 UTC)));
    assert!(!plan.is_overdue(datetime!(2027-04-01 01:00 +02:00)), "a day is one of UTC");
}

#[test]
fn each_missing_field_is_named() {
    for field in ["name", "metric", "baseline", "target", "guardrail", "owner", "decide_by"] {
        let lines = PLAN.lines().filter(|line| !line.starts_with(&format!("{field} =")));
        let said = refused(&lines.collect::<Vec<_>>().join("\n"));
        assert!(said.contains(&format!("missing field `{field}`")), "{said}");
    }
    assert!(refused("[migration]\nname = \"prices\"").contains("[business]: it is missing"));
}

#[test]
fn what_contradicts_itself_or_is_unknown_is_refused_with_the_way_on() {
    let cases = [
        ("target = 120.5", "target = 180", "business.target: it equals the baseline"),
        ("target = 120.5", "target = nan", "[business]: invalid type: null"),
        ("declines stay under 2 %", " p99 of checkout, in ms", "business.guardrail: it is the metric itself"),
        ("prices team", " ", "business.owner: empty or too long; write 1 to 200"),
        ("2027-03-31", "\"soon\"", "\"soon\" is no day such as 2027-03-31"),
        ("name = \"prices\"", "name = \"Prices!\"", "migration.name: \"Prices!\" is no migration's name"),
        ("owner =", "owners =", "unknown field `owners`"),
        ("[business]", "dual_write = true\n[business]", "dual_write: there is no such policy"),
        ("[migration]", "dual_write = false\n[migration]", "dual_write: there is no such policy"),
        ("[migration]", "[stages]\nx = 1\n[migration]", "stages: a plan has no such section"),
        ("[migration]", "[migration", "the file: TOML parse error"),
    ];
    for (from, to, text) in cases {
        let said = refused(&PLAN.replacen(from, to, 1));
        assert!(said.contains(text), "{said:?} lacks {text:?}");
    }
}

#[test]
fn no_threshold_lets_a_gate_pass_without_data() {
    let cases = [
        ("reads_min = 0", "thresholds.reads_min: 0 would let"),
        ("decisions_min = 0", "thresholds.decisions_min: 0 would let"),
        ("evidence_hours = 0", "thresholds.evidence_hours: evidence would never count"),
        ("evidence_hours = 169", "thresholds.evidence_hours: evidence would never count"),
        ("stale_reads_percent_max = 100.5", "thresholds.stale_reads_percent_max: no percent"),
        ("first_ramp_percent_max = 101", "thresholds.first_ramp_percent_max: no percent"),
        ("mutants = false", "thresholds.mutants: a gate is not waived"),
        ("cycle_seconds = 0", "thresholds.cycle_seconds: 0 would let"),
        ("verify_days = 0", "thresholds.verify_days: 0 would let"),
        ("reads_min = -1", "[thresholds]: invalid value"),
        ("drill = \"waived\"", "[thresholds]: unknown field `drill`"),
    ];
    for (line, text) in cases {
        let said = refused(&format!("{PLAN}[thresholds]\n{line}\n"));
        assert!(said.contains(text), "{said:?} lacks {text:?}");
    }
}
