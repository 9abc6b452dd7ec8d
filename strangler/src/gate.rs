//! Gates: what must be shown before a stage is entered. No data is never success.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use crate::{Applied, BoxError, Domain, Health, Heard, Peer};

/// Between two looks at a feed.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How many keys a gate names.
const NAMED_MAX: usize = 5;

/// A gate's answer. The order is from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Shown.
    Pass,
    /// Nothing to judge by, or nobody to ask.
    Inconclusive,
    /// Shown not to be so.
    Fail,
}

impl Verdict {
    /// Its name, as stored.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Inconclusive => "inconclusive",
            Self::Fail => "fail",
        }
    }

    /// The one with this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::Pass, Self::Inconclusive, Self::Fail].into_iter().find(|verdict| verdict.name() == name)
    }
}

/// One gate, as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// Its name, such as `metric`, `parity` or `reverse_feed`; `docs/migration.md` has all of them.
    pub name: String,
    /// The answer.
    pub verdict: Verdict,
    /// What was found, in a sentence.
    pub found: String,
    /// The numbers behind it.
    #[serde(default)]
    pub evidence: serde_json::Value,
}

/// From where to where events flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Forward,
    Reverse,
}

/// The keys by which a feed is measured, with the versions it must have reached.
pub(crate) type Sample = Vec<(String, i64)>;

/// Both feeds and the target, with the bounds of asking.
pub(crate) struct Probe<'a> {
    pub(crate) domain: &'a dyn Domain,
    pub(crate) peer: &'a dyn Peer,
    pub(crate) ask_timeout: Duration,
    pub(crate) feed_timeout: Duration,
    /// The oldest that the last heartbeat may be.
    pub(crate) heartbeat_max: Duration,
    pub(crate) sample_max: i64,
}

/// A feed as it was found: how far it is behind a sample, and its last heartbeat.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) sampled: usize,
    pub(crate) distance: Distance,
    pub(crate) heard: Heard,
}

/// How far a feed is behind a sample.
#[derive(Debug, Clone)]
pub(crate) struct Distance {
    pub(crate) behind: Vec<String>,
    pub(crate) parked: i64,
    pub(crate) awaiting: i64,
}

impl Gate {
    pub(crate) fn new(name: &str, verdict: Verdict, found: impl Into<String>) -> Self {
        Self { name: name.to_owned(), verdict, found: found.into(), evidence: serde_json::Value::Null }
    }

    pub(crate) fn with(mut self, evidence: serde_json::Value) -> Self {
        self.evidence = evidence;
        self
    }

    /// With the last heartbeat among the numbers.
    fn heard(mut self, heard: &Heard) -> Self {
        if let serde_json::Value::Object(numbers) = &mut self.evidence {
            numbers.insert("heartbeat".to_owned(), heard.evidence());
        }
        self
    }

    /// The same answer, unless it was given without a key to judge by.
    pub(crate) fn shown_by_some(self) -> Self {
        let keys = self.evidence.get("keys").and_then(serde_json::Value::as_u64);
        if self.verdict != Verdict::Pass || keys != Some(0) {
            return self;
        }
        let found = "the target has published nothing: nothing shows that it would come back";
        Self { verdict: Verdict::Inconclusive, found: found.to_owned(), ..self }
    }

    /// The business metric that must improve, so that "done" can be told from "moved".
    pub(crate) fn metric(metric: Option<&str>) -> Self {
        match metric {
            Some(metric) => Self::new("metric", Verdict::Pass, format!("must improve: {metric}"))
                .with(json!({ "metric": metric })),
            None => Self::new("metric", Verdict::Fail, "the business metric that must improve is not named"),
        }
    }
}

impl Distance {
    fn between(sample: &[(String, i64)], applied: &Applied) -> Self {
        let reached = |key: &str| applied.versions.get(key).copied().unwrap_or(0);
        let behind = sample.iter().filter(|(key, version)| reached(key) < *version);
        Self {
            behind: behind.map(|(key, _)| key.clone()).collect(),
            parked: applied.parked,
            awaiting: applied.awaiting,
        }
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.behind.is_empty() && self.parked == 0 && self.awaiting == 0
    }
}

impl Direction {
    pub(crate) const fn gate(self) -> &'static str {
        match self {
            Self::Forward => "feed",
            Self::Reverse => "reverse_feed",
        }
    }
}

impl Probe<'_> {
    pub(crate) async fn target_healthy(&self) -> Gate {
        let gate = |verdict, found: String| Gate::new("target_healthy", verdict, found);
        match self.bounded(self.peer.health()).await {
            Ok(Health::Serving) => gate(Verdict::Pass, "the target serves".to_owned()),
            Ok(Health::NotServing) => {
                gate(Verdict::Fail, "the target says that it does not serve".to_owned())
            }
            Err(error) => gate(Verdict::Inconclusive, format!("the target could not be asked: {error}")),
        }
    }

    /// What a feed must have reached: for the target, the keys that the source wrote last, with the versions they have now;
    /// for the source, what the target itself published last. The source's own tables could not show that: they move with
    /// its cursors, in one transaction, and know nothing of what is stuck at the target.
    pub(crate) async fn sample(&self, direction: Direction) -> Result<Sample, BoxError> {
        let sample = match direction {
            Direction::Forward => self.bounded(self.domain.versions(self.sample_max)).await?,
            Direction::Reverse => self.bounded(self.peer.published(self.sample_max)).await?,
        };
        match usize::try_from(self.sample_max) {
            Ok(bound) if sample.len() <= bound => Ok(sample),
            _ => Err(format!("{} keys were answered, more than asked for", sample.len()).into()),
        }
    }

    /// How far a feed is behind, and its last heartbeat, now.
    pub(crate) async fn look(&self, direction: Direction, sample: &Sample) -> Result<Found, BoxError> {
        let keys: Vec<String> = sample.iter().map(|(key, _)| key.clone()).collect();
        let (applied, heard) = match direction {
            Direction::Forward => {
                tokio::join!(self.bounded(self.peer.applied(&keys)), self.bounded(self.peer.heard()))
            }
            Direction::Reverse => {
                tokio::join!(self.bounded(self.domain.reverse_feed(&keys)), self.bounded(self.domain.heard()))
            }
        };
        let distance = Distance::between(sample, &applied?);
        Ok(Found { sampled: sample.len(), distance, heard: heard? })
    }

    /// Whether a feed reaches, within the bound, what its beginning knew when the question was asked. Exact for the keys of
    /// the sample, and quick under load: what is written meanwhile is not waited for. And whether it is alive, by its last heartbeat.
    pub(crate) async fn caught_up(&self, direction: Direction) -> Gate {
        let name = direction.gate();
        let sample = match self.sample(direction).await {
            Ok(sample) if sample.is_empty() && direction == Direction::Forward => return unwritten(name),
            Ok(sample) => sample,
            Err(error) => return unasked(name, &error),
        };
        let started = Instant::now();
        loop {
            let found = self.look(direction, &sample).await;
            let ms = millis(started.elapsed());
            let over = started.elapsed() + LOOK_EVERY > self.feed_timeout;
            let gate = match found {
                Ok(found) => self.weigh(direction, ms, &found),
                Err(error) => unasked(name, &error),
            };
            if gate.verdict == Verdict::Pass || over {
                return gate;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// A gate's answer without waiting, for a status: one look.
    pub(crate) async fn glance(&self, direction: Direction) -> (Gate, Option<Found>) {
        let looked = async { self.look(direction, &self.sample(direction).await?).await };
        match looked.await {
            Ok(found) if found.sampled == 0 && direction == Direction::Forward => {
                (unwritten(direction.gate()), Some(found))
            }
            Ok(found) => {
                let mut gate = self.weigh(direction, 0, &found);
                if !found.distance.is_zero() {
                    // Under load some key is always on its way; only the gate itself waits to see.
                    gate.verdict = Verdict::Inconclusive;
                }
                (gate, Some(found))
            }
            Err(error) => (unasked(direction.gate(), &error), None),
        }
    }

    /// Keys first: of a feed that is behind, a heartbeat shows nothing.
    fn weigh(&self, direction: Direction, ms: u64, found: &Found) -> Gate {
        let Found { sampled, distance, heard } = found;
        let name = direction.gate();
        let age = heard.last().map(|heartbeat| heartbeat.age);
        let gate = match (heard, age) {
            _ if !distance.is_zero() => late(name, *sampled, ms, distance),
            (Heard::Unsent, _) => reached(direction, *sampled, ms),
            (_, None) => {
                let found = "no heartbeat has come through it yet; nothing waits";
                Gate {
                    verdict: Verdict::Inconclusive,
                    found: found.to_owned(),
                    ..reached(direction, *sampled, ms)
                }
            }
            (_, Some(age)) if age > self.heartbeat_max => {
                let found = format!(
                    "the last heartbeat came {} s ago, {} s are allowed: the feed stands still, though no key is behind",
                    age.as_secs(),
                    self.heartbeat_max.as_secs()
                );
                Gate { verdict: Verdict::Fail, found, ..reached(direction, *sampled, ms) }
            }
            (_, Some(age)) => {
                let gate = reached(direction, *sampled, ms);
                let found = format!("{}; the last heartbeat came {} s ago", gate.found, age.as_secs());
                Gate { found, ..gate }
            }
        };
        gate.heard(heard)
    }

    async fn bounded<T>(&self, ask: impl Future<Output = Result<T, BoxError>>) -> Result<T, BoxError> {
        match timeout(self.ask_timeout, ask).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} ms", self.ask_timeout.as_millis()).into()),
        }
    }
}

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn unwritten(name: &str) -> Gate {
    Gate::new(name, Verdict::Inconclusive, "no key was written yet: nothing shows the feed")
}

fn reached(direction: Direction, sampled: usize, ms: u64) -> Gate {
    let found = match (direction, sampled) {
        // Nothing is claimed of a feed that has carried nothing; before the first birth at the target it can't have.
        (Direction::Reverse, 0) => "the target has published nothing yet; nothing waits".to_owned(),
        _ => format!("all of {sampled} keys reached within {ms} ms; nothing waits"),
    };
    Gate::new(direction.gate(), Verdict::Pass, found)
        .with(json!({ "keys": sampled, "behind": 0, "parked": 0, "awaiting": 0, "waited_ms": ms }))
}

fn late(name: &str, sampled: usize, ms: u64, distance: &Distance) -> Gate {
    let Distance { behind, parked, awaiting } = distance;
    let named: Vec<&str> = behind.iter().take(NAMED_MAX).map(String::as_str).collect();
    let found = format!(
        "{} of {sampled} keys behind after {ms} ms, {parked} events parked, {awaiting} keys await a snapshot",
        behind.len()
    );
    Gate::new(name, Verdict::Fail, found).with(json!({
        "keys": sampled, "behind": behind.len(), "such_as": named, "parked": parked, "awaiting": awaiting, "waited_ms": ms,
    }))
}

fn unasked(name: &str, error: &BoxError) -> Gate {
    Gate::new(name, Verdict::Inconclusive, format!("could not be asked: {error}"))
}

#[cfg(test)]
mod tests {
    use super::{Distance, Gate, Verdict};
    use crate::Applied;

    #[test]
    fn a_key_that_the_replica_does_not_know_is_behind() {
        let applied = Applied { versions: [("a".to_owned(), 2)].into(), parked: 0, awaiting: 0 };
        let distance = Distance::between(&[("a".to_owned(), 2), ("b".to_owned(), 1)], &applied);
        assert_eq!(distance.behind, ["b"]);
        assert!(!distance.is_zero());
    }

    #[test]
    fn what_waits_counts_even_when_every_key_is_reached() {
        let applied = Applied { parked: 1, ..Applied::default() };
        assert!(!Distance::between(&[], &applied).is_zero());
    }

    #[test]
    fn a_pass_without_a_key_shows_nothing_where_something_must_be_shown() {
        let none = super::reached(super::Direction::Reverse, 0, 1);
        assert_eq!(none.verdict, Verdict::Pass);
        assert_eq!(none.shown_by_some().verdict, Verdict::Inconclusive);
        assert_eq!(super::reached(super::Direction::Reverse, 1, 1).shown_by_some().verdict, Verdict::Pass);
    }

    #[test]
    fn a_metric_must_be_named() {
        assert_eq!(Gate::metric(None).verdict, Verdict::Fail);
        assert_eq!(Gate::metric(Some("p99 of checkout")).verdict, Verdict::Pass);
    }
}
