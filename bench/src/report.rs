//! What a run found: the JSON that the page is written from.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// A spread over this share of the median makes a claim inconclusive, unless every round misses the bound.
const SPREAD_MAX: f64 = 0.25;

/// Fewer rounds than this are a try, not a measurement.
const ROUNDS_MIN: usize = 5;

/// The shape of this file; a reader refuses another.
pub(crate) const SCHEMA: u32 = 1;

/// Everything one run found.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) schema: u32,
    /// Absent from the JSON of older runs, which were the outbox's.
    #[serde(default)]
    pub(crate) bench: Bench,
    pub(crate) circumstances: Circumstances,
    pub(crate) claims: Vec<Claim>,
    pub(crate) figures: Vec<Figure>,
    pub(crate) deliveries: Vec<Delivery>,
    pub(crate) profile: Vec<Share>,
    #[serde(default)]
    pub(crate) statements: Vec<Statement>,
}

/// Which benchmark it was.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bench {
    #[default]
    Outbox,
    Payments,
    Migration,
}

/// Where, when and how.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Circumstances {
    /// RFC 3339.
    pub(crate) started: String,
    pub(crate) seconds: u64,
    pub(crate) command: String,
    pub(crate) machine: BTreeMap<String, String>,
    pub(crate) build: BTreeMap<String, String>,
    pub(crate) postgres: BTreeMap<String, String>,
    pub(crate) kafka: BTreeMap<String, String>,
    pub(crate) options: BTreeMap<String, String>,
    /// The settings of each contender, in words.
    pub(crate) contenders: BTreeMap<String, String>,
    pub(crate) starts: Starts,
}

/// How idle the machine was when rounds started.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(crate) struct Starts {
    pub(crate) count: u32,
    /// Starts for which the wait for an idle machine ended without one.
    pub(crate) not_idle: u32,
    /// The busiest start: percent of all cores.
    pub(crate) busy_max: f64,
    /// Seconds waited in all.
    pub(crate) waited: f64,
}

/// A measured quantity, a value a round.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// The part of the page it belongs to.
    pub(crate) row: String,
    pub(crate) name: String,
    pub(crate) unit: String,
    pub(crate) values: Vec<f64>,
}

/// A figure held against a bound.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub(crate) row: String,
    pub(crate) name: String,
    pub(crate) unit: String,
    pub(crate) wanted: Wanted,
    pub(crate) values: Vec<f64>,
}

/// What a claim is held against.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Wanted {
    AtLeast(f64),
    AtMost(f64),
    /// For a difference of two figures, which may be about nothing, so that its spread says nothing: each round must be at most this.
    /// Rounds that disagree conclude nothing.
    EachAtMost(f64),
    /// A count that must be exactly this: one round that differs breaks it, and no spread excuses it.
    Exactly(f64),
}

/// What may be concluded from a claim's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Holds,
    Fails,
    /// The spread is over 25 %, and some round is within the bound.
    Inconclusive,
    /// Some rounds hold, others don't.
    Mixed,
    /// Too few rounds to conclude anything.
    Tried,
}

/// What the verifier counted of the records of one scene, over all its rounds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Delivery {
    pub(crate) scene: String,
    pub(crate) contender: String,
    pub(crate) kills: u64,
    pub(crate) committed: u64,
    pub(crate) records: u64,
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
    /// First deliveries that came after a later version of their key.
    pub(crate) inverted: u64,
    /// Records of events that were never committed.
    pub(crate) unknown: u64,
    /// The first few findings, in words.
    pub(crate) examples: Vec<String>,
}

/// Where the processors' time went while a backlog was drained.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Share {
    pub(crate) scene: String,
    /// `relay`, `PostgreSQL`, `Kafka` or `idle`, or what a session was seen doing.
    pub(crate) who: String,
    /// CPU seconds per million events; for what was seen in samples, their percentage.
    pub(crate) value: f64,
    pub(crate) unit: String,
}

/// What a database was asked, in one round.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Statement {
    /// The rows of the report that it belongs to.
    pub(crate) way: String,
    /// Database and module that asked.
    pub(crate) role: String,
    /// Shortened, constants replaced.
    pub(crate) text: String,
    /// A paid order.
    pub(crate) calls: f64,
    /// Milliseconds in the server for a paid order.
    pub(crate) ms: f64,
}

impl Report {
    /// Adds a round's value to a figure, which is made at the first.
    pub(crate) fn note(&mut self, row: &str, name: &str, unit: &str, value: f64) {
        let found = self.figures.iter().position(|figure| figure.row == row && figure.name == name);
        let at = found.unwrap_or_else(|| {
            self.figures.push(Figure::new(row, name, unit));
            self.figures.len() - 1
        });
        self.figures[at].values.push(value);
    }

    /// A figure that was noted.
    pub(crate) fn figure(&self, row: &str, name: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.row == row && figure.name == name)
    }

    /// Writes all that was found so far, if a file was named for it.
    pub(crate) fn save(&self, path: Option<&Path>) -> Result<()> {
        let Some(path) = path else { return Ok(()) };
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
    }

    /// Whether the programs that were measured were built for debugging.
    pub(crate) fn is_debug(&self) -> bool {
        self.circumstances.build.get("profile").is_some_and(|profile| profile.starts_with("debug"))
    }
}

impl Figure {
    pub(crate) fn new(row: &str, name: impl Into<String>, unit: &str) -> Self {
        Self { row: row.into(), name: name.into(), unit: unit.into(), values: Vec::new() }
    }

    pub(crate) fn median(&self) -> f64 {
        median(&self.values)
    }

    /// This figure over another, round by round, held against a bound.
    pub(crate) fn over(&self, other: &Figure, name: impl Into<String>, wanted: Wanted) -> Claim {
        let values = self.values.iter().zip(&other.values).map(|(mine, theirs)| mine / theirs).collect();
        Claim { row: self.row.clone(), name: name.into(), unit: "x".into(), wanted, values }
    }

    /// Of several figures the best value of each round, where more is better.
    pub(crate) fn most<'a>(row: &str, all: impl Iterator<Item = &'a Figure>) -> Figure {
        let mut best = Figure::new(row, "the best of them", "");
        for figure in all {
            best.values.resize(figure.values.len().max(best.values.len()), f64::NEG_INFINITY);
            best.values.iter_mut().zip(&figure.values).for_each(|(best, value)| *best = best.max(*value));
        }
        best
    }

    /// Of several figures the best value of each round, where less is better.
    pub(crate) fn least<'a>(row: &str, all: impl Iterator<Item = &'a Figure>) -> Figure {
        let mut best = Figure::new(row, "the best of them", "");
        for figure in all {
            best.values.resize(figure.values.len().max(best.values.len()), f64::INFINITY);
            best.values.iter_mut().zip(&figure.values).for_each(|(best, value)| *best = best.min(*value));
        }
        best
    }

    /// This figure itself, held against a bound.
    pub(crate) fn held(&self, wanted: Wanted) -> Claim {
        let Self { row, name, unit, values } = self.clone();
        Claim { row, name, unit, wanted, values }
    }
}

impl Claim {
    pub(crate) fn verdict(&self) -> Verdict {
        let all =
            |holds: &dyn Fn(f64) -> bool| !self.values.is_empty() && self.values.iter().all(|v| holds(*v));
        let middle = median(&self.values);
        let (holds, misses) = match self.wanted {
            // A count proves itself in any number of rounds.
            Wanted::Exactly(wanted) => {
                return if all(&|v| (v - wanted).abs() < 0.5) { Verdict::Holds } else { Verdict::Fails };
            }
            Wanted::EachAtMost(most) => {
                return match (all(&|v| v <= most), all(&|v| v > most)) {
                    _ if self.values.len() < ROUNDS_MIN => Verdict::Tried,
                    (true, _) => Verdict::Holds,
                    (_, true) => Verdict::Fails,
                    (false, false) => Verdict::Mixed,
                };
            }
            Wanted::AtLeast(least) => (middle >= least, all(&|v| v < least)),
            Wanted::AtMost(most) => (middle <= most, all(&|v| v > most)),
        };
        if self.values.len() < ROUNDS_MIN {
            Verdict::Tried
        } else if misses {
            // However far the rounds are apart, none of them reached it.
            Verdict::Fails
        } else if spread(&self.values).is_nan() || spread(&self.values) > SPREAD_MAX {
            Verdict::Inconclusive
        } else if holds {
            Verdict::Holds
        } else {
            Verdict::Fails
        }
    }
}

impl Verdict {
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Fails => "**fails**",
            Self::Inconclusive => "inconclusive: the spread is over 25 %",
            Self::Mixed => "inconclusive: the rounds disagree",
            Self::Tried => "a try: fewer than 5 rounds",
        }
    }
}

impl Delivery {
    /// Adds what another round of the same scene counted.
    pub(crate) fn add(&mut self, other: Delivery) {
        self.kills += other.kills;
        self.committed += other.committed;
        self.records += other.records;
        self.lost += other.lost;
        self.repeated += other.repeated;
        self.inverted += other.inverted;
        self.unknown += other.unknown;
        self.examples.extend(other.examples);
        self.examples.truncate(5);
    }
}

/// The middle value; not a number when there is none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// Largest minus smallest value, as a share of the median.
pub(crate) fn spread(values: &[f64]) -> f64 {
    let most = values.iter().copied().fold(f64::MIN, f64::max);
    let least = values.iter().copied().fold(f64::MAX, f64::min);
    if values.is_empty() { f64::NAN } else { (most - least) / median(values) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(wanted: Wanted, values: &[f64]) -> Verdict {
        let name = "n".to_owned();
        Claim { row: "r".into(), name, unit: "x".into(), wanted, values: values.to_vec() }.verdict()
    }

    #[test]
    fn a_wide_spread_concludes_nothing() {
        assert_eq!(claim(Wanted::AtLeast(1.0), &[2.0, 2.0, 2.0, 2.0, 2.6]), Verdict::Inconclusive);
        assert_eq!(claim(Wanted::AtLeast(1.0), &[2.0, 2.0, 2.0, 2.0, 2.4]), Verdict::Holds);
        assert_eq!(claim(Wanted::AtMost(1.0), &[2.0, 2.0, 2.0, 2.0, 2.4]), Verdict::Fails);
    }

    #[test]
    fn what_every_round_misses_fails_whatever_the_spread() {
        let rates = [75.2, 105.0, 122.0, 98.0, 110.0];
        assert_eq!(claim(Wanted::AtLeast(300.0), &rates), Verdict::Fails);
        assert_eq!(claim(Wanted::AtMost(15.0), &rates), Verdict::Fails);
        assert_eq!(claim(Wanted::AtLeast(120.0), &rates), Verdict::Inconclusive, "one round reaches it");
        assert_eq!(claim(Wanted::AtMost(80.0), &rates), Verdict::Inconclusive, "one round is below it");
        assert_eq!(claim(Wanted::AtLeast(300.0), &rates[..4]), Verdict::Tried);
    }

    #[test]
    fn rounds_that_disagree_about_a_difference_conclude_nothing() {
        let wanted = Wanted::EachAtMost(1.0);
        assert_eq!(claim(wanted, &[-0.1, 0.4, 0.0, 0.9, 0.2]), Verdict::Holds);
        assert_eq!(claim(wanted, &[1.1, 2.0, 1.5, 9.0, 1.2]), Verdict::Fails);
        assert_eq!(claim(wanted, &[0.1, 0.4, 0.0, 1.1, 0.2]), Verdict::Mixed);
        assert_eq!(claim(wanted, &[0.1]), Verdict::Tried);
    }

    #[test]
    fn few_rounds_are_a_try_but_a_count_is_a_count() {
        assert_eq!(claim(Wanted::AtLeast(1.0), &[2.0, 2.0]), Verdict::Tried);
        assert_eq!(claim(Wanted::Exactly(0.0), &[0.0]), Verdict::Holds);
        assert_eq!(claim(Wanted::Exactly(0.0), &[0.0, 0.0, 1.0]), Verdict::Fails);
        assert_eq!(claim(Wanted::Exactly(0.0), &[]), Verdict::Fails);
    }

    #[test]
    fn the_best_of_a_round_is_taken_round_by_round() {
        let figure = |values: &[f64]| Figure { values: values.to_vec(), ..Figure::new("r", "n", "u") };
        let all = [figure(&[1.0, 5.0]), figure(&[3.0, 4.0])];
        assert_eq!(Figure::most("r", all.iter()).values, [3.0, 5.0]);
        assert_eq!(Figure::least("r", all.iter()).values, [1.0, 4.0]);
    }

    #[test]
    fn a_median_of_an_even_number_lies_between() {
        assert!((median(&[1.0, 4.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!(median(&[]).is_nan());
    }
}
