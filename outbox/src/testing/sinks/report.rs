//! What the suite found.

use std::{fmt, time::Duration};

/// A rule that a sink must keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Rule {
    /// `send` returned well: the record is in the log, its key and bytes unchanged.
    Delivered,
    /// All headers arrive, unchanged.
    Headers,
    /// Records of one key are in one partition.
    OnePartition,
    /// Records of one key that were sent one after another, each after the last one's report, are in that order.
    Order,
    /// The largest record that `outbox.publish` lets pass is delivered.
    Limits,
    /// A record that the broker refuses is [`Refusal::Record`](crate::Refusal::Record), is not in the log, and takes no
    /// other record with it.
    Refusal,
    /// While the broker is down a send ends as [`Refusal::Outage`](crate::Refusal::Outage), and afterwards sends pass.
    Outage,
    /// `check` says whether the broker can be reached.
    Check,
    /// Every send returns within [`super::Broker::send_timeout`].
    Bounded,
}

/// A rule that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Broken {
    /// Which.
    pub rule: Rule,
    /// What was seen.
    pub what: String,
}

/// What the suite found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Every breach.
    pub broken: Vec<Broken>,
    /// Rules that were not tried, since the [`super::Broker`] can't do what they need.
    pub untried: Vec<Rule>,
    pub(super) send_timeout: Duration,
}

impl Report {
    /// A report of nothing yet.
    pub(super) fn within(send_timeout: Duration) -> Self {
        Self { broken: Vec::new(), untried: Vec::new(), send_timeout }
    }

    pub(super) fn broken(&mut self, rule: Rule, what: impl Into<String>) {
        self.broken.push(Broken { rule, what: what.into() });
    }

    /// The rules that were broken, each once.
    pub fn rules(&self) -> Vec<Rule> {
        let mut rules: Vec<Rule> = self.broken.iter().map(|broken| broken.rule).collect();
        rules.sort_unstable();
        rules.dedup();
        rules
    }

    /// Asserts that no rule that was tried is broken.
    ///
    /// # Panics
    /// When one is; shows each breach.
    pub fn assert(&self) {
        assert!(self.broken.is_empty(), "the sink breaks rules:\n{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for broken in &self.broken {
            writeln!(f, "{:?}: {}", broken.rule, broken.what)?;
        }
        for rule in &self.untried {
            writeln!(f, "{rule:?}: not tried")?;
        }
        Ok(())
    }
}
