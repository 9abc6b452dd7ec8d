//! What reads have shown of the target, as gates: compared in `shadowing`, answered by its copies in `reading`.

use std::collections::BTreeMap;

use serde_json::json;

use super::Controller;
use crate::policy::Policy;
use crate::store::reads as store;
use crate::{Class, Fallback, Gate, Stage, Verdict};

/// The gate of `reading`.
const READS: &str = "reads";
/// The gate of `ramping`.
const STALE_READS: &str = "stale_reads";
/// At least this share of the reads that were looked at must have been comparable; else those that were are a chosen few.
pub(super) const COMPARABLE_PERCENT_MIN: u64 = 50;
/// Classes that speak against the target, or against what compares: they count as long as the stage lasts, whichever build found them.
/// `strangler.note_reads` keeps them as long.
const AGAINST: [&str; 3] = [Class::Money.name(), Class::Structure.name(), "mutant_missed"];

/// The counts that a gate goes by.
#[derive(Debug, Default)]
struct Found(BTreeMap<String, u64>);

impl Controller {
    /// The gates by reads of the next stage: `reads` while they are compared, `stale_reads` while copies answer them. Other
    /// stages show nothing new, so they have none.
    pub(super) async fn reads_shown(&self, policy: &Policy) -> Vec<Gate> {
        let name = match policy.stage {
            Stage::Shadowing => READS,
            Stage::Reading => STALE_READS,
            Stage::Local
            | Stage::Following
            | Stage::Ramping
            | Stage::Primary
            | Stage::Sealed
            | Stage::Removed => return Vec::new(),
        };
        let thresholds = self.thresholds();
        let (version, hours) = (self.0.settings.version.as_str(), thresholds.evidence_hours);
        let asked = store::Asked { version, hours, always: &AGAINST };
        let found = match store::counts(&self.0.pool, &self.0.migration, asked).await {
            Ok(counts) => Found::of(counts),
            Err(error) => {
                tracing::warn!(%error, "what reads found could not be read");
                let found = "what reads found could not be read; see the controller's log";
                return vec![Gate::new(name, Verdict::Inconclusive, found)];
            }
        };
        let (verdict, text) = if name == READS {
            compared(&found, thresholds.reads_min)
        } else {
            stale(&found, thresholds.reads_min, thresholds.stale_reads_percent_max)
        };
        let text = match verdict {
            Verdict::Inconclusive => format!("{text}; only reads by build {version} within {hours} h count"),
            Verdict::Pass | Verdict::Fail => text,
        };
        let inputs = json!({ "counts": found.0, "version": version, "hours": hours });
        vec![Gate::new(name, verdict, text).with(inputs)]
    }
}

impl Found {
    fn of(counts: Vec<(String, i64)>) -> Self {
        let counts = counts.into_iter();
        Self(counts.map(|(class, count)| (class, u64::try_from(count).unwrap_or_default())).collect())
    }

    fn get(&self, class: &str) -> u64 {
        self.0.get(class).copied().unwrap_or(0)
    }
}

/// The gate `reads`.
fn compared(found: &Found, reads_min: u64) -> (Verdict, String) {
    let count = |class: Class| found.get(class.name());
    let (equal, money, structure) = (count(Class::Equal), count(Class::Money), count(Class::Structure));
    let noise = count(Class::Noise);
    let others = noise + count(Class::Stale) + count(Class::Missing) + count(Class::Error);
    let compared = equal + money + structure;
    let (caught, missed) = (found.get("mutant_caught"), found.get("mutant_missed"));
    if money + structure > 0 {
        let text = format!(
            "of {compared} reads compared {money} differ in money and {structure} otherwise \
             (table strangler.read_sample has the first)"
        );
        return (Verdict::Fail, text);
    }
    if missed > 0 {
        return (Verdict::Fail, format!("{missed} of {} seeded differences were not found", caught + missed));
    }
    let unshown = if compared + others == 0 {
        "no read was compared yet".to_owned()
    } else if compared < reads_min {
        format!("{compared} reads were compared, {reads_min} are needed")
    } else if compared * 100 < (compared + others) * COMPARABLE_PERCENT_MIN {
        let all = compared + others;
        format!(
            "only {compared} of {all} reads could be compared: the target's copies are behind, missing or not steady"
        )
    } else if caught == 0 {
        "no seeded difference was tried: nothing shows that one is found".to_owned()
    } else {
        let text = format!(
            "{compared} reads compared, none differs (bound 3/{compared}); {noise} were noise; \
             all of {caught} seeded differences were found"
        );
        return (Verdict::Pass, text);
    };
    (Verdict::Inconclusive, unshown)
}

/// The gate `stale_reads`. A key that is not at the target says nothing of its age, and a version that is nowhere nothing of the
/// target, so these two are not part of the share. A copy that is not whole fell back like one that is too old, but says nothing of
/// what whole ones do: of these there must be enough.
fn stale(found: &Found, reads_min: u64, percent_max: f64) -> (Verdict, String) {
    let count = |fallback: Fallback| found.get(fallback.name());
    let (copies, lag, parked) = (found.get("copy"), count(Fallback::Lag), count(Fallback::Parked));
    let failed = count(Fallback::Error) + count(Fallback::Timeout);
    let asked = copies + lag + failed;
    let reads = asked + parked;
    let text = format!(
        "of {reads} reads of the cohort {lag} found a copy too old, {failed} got no answer in time, {parked} found it not whole; \
         {} more found none",
        count(Fallback::NotFound)
    );
    let least = reads_min.max(1);
    if reads < least {
        return (Verdict::Inconclusive, format!("{text}; {least} reads are needed"));
    }
    let percent = 100.0 * number(lag + failed + parked) / number(reads);
    let text = format!("{text}: {percent:.2} % fell back, {percent_max} % may");
    if percent > percent_max {
        return (Verdict::Fail, text);
    }
    if asked < least || copies == 0 {
        let unshown =
            format!("{text}; {asked} of them asked for a whole copy, {least} must, and one be answered");
        return (Verdict::Inconclusive, unshown);
    }
    (Verdict::Pass, text)
}

/// Exact up to 4 billion; beyond that both of a share's numbers are large enough to fail safe.
fn number(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(counts: &[(&str, u64)]) -> Found {
        let counts = counts.iter().map(|(class, count)| ((*class).to_owned(), *count)).collect();
        Found(counts)
    }

    fn reads(counts: &[(&str, u64)]) -> (Verdict, String) {
        compared(&found(counts), 10)
    }

    #[test]
    fn no_comparison_is_never_a_pass() {
        assert_eq!(reads(&[]).0, Verdict::Inconclusive);
        assert_eq!(reads(&[("dropped", 99)]), (Verdict::Inconclusive, "no read was compared yet".to_owned()));
        let few = reads(&[("equal", 9), ("mutant_caught", 9)]);
        assert_eq!(few, (Verdict::Inconclusive, "9 reads were compared, 10 are needed".to_owned()));
        assert_eq!(reads(&[("equal", 10)]).0, Verdict::Inconclusive, "nothing seeded");
        let behind = reads(&[("equal", 10), ("stale", 11), ("mutant_caught", 10)]);
        assert_eq!(behind.0, Verdict::Inconclusive, "{behind:?}");
    }

    #[test]
    fn one_difference_fails_and_a_comparison_that_finds_none_fails() {
        for class in ["money", "structure"] {
            assert_eq!(reads(&[("equal", 999), (class, 1), ("mutant_caught", 999)]).0, Verdict::Fail);
        }
        let blind = reads(&[("equal", 10), ("mutant_caught", 9), ("mutant_missed", 1)]);
        assert_eq!(blind, (Verdict::Fail, "1 of 10 seeded differences were not found".to_owned()));
    }

    #[test]
    fn a_pass_says_its_bound() {
        let (verdict, text) = reads(&[("equal", 10), ("noise", 2), ("mutant_caught", 10)]);
        assert_eq!(verdict, Verdict::Pass);
        assert!(text.contains("bound 3/10") && text.contains("2 were noise"), "{text}");
    }

    #[test]
    fn stale_reads_are_a_share() {
        assert_eq!(stale(&found(&[]), 10, 1.0).0, Verdict::Inconclusive);
        assert_eq!(stale(&found(&[("copy", 9)]), 10, 1.0).0, Verdict::Inconclusive);
        assert_eq!(stale(&found(&[("copy", 99), ("lag", 1), ("not_found", 50)]), 10, 1.0).0, Verdict::Pass);
        assert_eq!(stale(&found(&[("copy", 98), ("lag", 1), ("timeout", 1)]), 10, 1.0).0, Verdict::Fail);
        assert_eq!(stale(&found(&[("ahead", 1_000)]), 10, 1.0).0, Verdict::Inconclusive);
    }

    #[test]
    fn copies_that_are_not_whole_fell_back_and_make_no_others_better() {
        assert_eq!(stale(&found(&[("parked", 1_000)]), 10, 1.0).0, Verdict::Fail);
        assert_eq!(stale(&found(&[("copy", 98), ("parked", 2)]), 10, 1.0).0, Verdict::Fail);
        assert_eq!(stale(&found(&[("copy", 99), ("parked", 1)]), 10, 1.0).0, Verdict::Pass);
        // Whatever the plan allows: no answer of a copy shows nothing.
        for none in [&[("parked", 1_000)][..], &[("lag", 1_000)], &[("copy", 9), ("parked", 1_000)]] {
            assert_eq!(stale(&found(none), 10, 100.0).0, Verdict::Inconclusive, "{none:?}");
        }
    }
}
