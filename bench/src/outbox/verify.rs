//! The verifier, the same for us and for the peers: it reads a topic from its beginning and compares it with what was
//! committed.
//!
//! It knows nothing of anyone's headers. Each payload carries its key and the version that the business row had in the
//! transaction that published it; the row's lock makes those versions 1, 2, 3 ... in the order of the commits.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};
use serde::Deserialize;

use crate::{ground::client, report::Delivery};

/// A topic that yields nothing for this long before its end is broken.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// How long one look for records takes at most.
const POLL: Duration = Duration::from_millis(500);

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Findings kept in words.
const EXAMPLES_MAX: usize = 5;

/// What every payload begins with, whoever sends it.
#[derive(Debug, Deserialize)]
pub(crate) struct Booked {
    pub(crate) key: String,
    pub(crate) version: i64,
}

/// What a topic held.
pub(crate) struct Seen {
    pub(crate) delivery: Delivery,
    /// First and last append time at the broker of versions above `counted_above`, in milliseconds.
    pub(crate) span_ms: Option<(i64, i64)>,
    /// First deliveries in that span.
    pub(crate) in_span: u64,
}

/// Counts over the records of one topic.
#[derive(Default)]
pub(crate) struct Verifier {
    keys: HashMap<String, Key>,
    counts: Delivery,
    span_ms: Option<(i64, i64)>,
    in_span: u64,
}

#[derive(Default)]
struct Key {
    /// Whether version n + 1 was seen.
    seen: Vec<bool>,
    highest: i64,
    partition: Option<i32>,
}

impl Verifier {
    /// Takes one record, in the order of its partition. `after` is the version of its key that the measurement started from.
    pub(crate) fn take(
        &mut self,
        partition: i32,
        at_ms: i64,
        key: Option<&[u8]>,
        payload: &[u8],
        after: i64,
    ) {
        self.counts.records += 1;
        let Ok(booked) = serde_json::from_slice::<Booked>(payload) else {
            return self.strange("a payload that nobody wrote".into());
        };
        if key != Some(booked.key.as_bytes()) || booked.version < 1 {
            return self.strange(format!("{}@{} under another key", booked.key, booked.version));
        }
        let Booked { key, version } = booked;
        let state = self.keys.entry(key.clone()).or_default();
        if *state.partition.get_or_insert(partition) != partition {
            return self.strange(format!("{key}@{version} in a second partition"));
        }
        let index = usize::try_from(version - 1).unwrap_or(usize::MAX);
        if state.seen.len() <= index {
            state.seen.resize(index + 1, false);
        }
        if std::mem::replace(&mut state.seen[index], true) {
            self.counts.repeated += 1;
            return;
        }
        if version > after {
            let (first, last) = self.span_ms.unwrap_or((at_ms, at_ms));
            self.span_ms = Some((first.min(at_ms), last.max(at_ms)));
            self.in_span += 1;
        }
        let highest = state.highest;
        state.highest = highest.max(version);
        if version < highest {
            self.counts.inverted += 1;
            self.example(format!("{key}@{version} came first after {key}@{highest}"));
        }
    }

    /// Compares what was seen with the last committed version of each key.
    pub(crate) fn finish(mut self, committed: &HashMap<String, i64>) -> Seen {
        for (key, last) in committed {
            self.counts.committed += u64::try_from(*last).unwrap_or(0);
            let state = self.keys.remove(key).unwrap_or_default();
            let last = usize::try_from(*last).unwrap_or(0);
            let found = state.seen.iter().take(last).filter(|seen| **seen).count();
            let lost = u64::try_from(last - found).unwrap_or(u64::MAX);
            if lost > 0 {
                self.counts.lost += lost;
                self.example(format!("{lost} of the {last} versions of {key} are missing"));
            }
            let beyond = state.seen.iter().skip(last).filter(|seen| **seen).count();
            (0..beyond)
                .for_each(|_| self.strange(format!("{key} goes beyond its {last} committed versions")));
        }
        let others: Vec<(String, usize)> = self
            .keys
            .drain()
            .map(|(key, state)| (key, state.seen.iter().filter(|seen| **seen).count()))
            .collect();
        for (key, records) in others {
            (0..records).for_each(|_| self.strange(format!("{key} was never committed")));
        }
        Seen { delivery: self.counts, span_ms: self.span_ms, in_span: self.in_span }
    }

    fn strange(&mut self, what: String) {
        self.counts.unknown += 1;
        self.example(what);
    }

    fn example(&mut self, what: String) {
        if self.counts.examples.len() < EXAMPLES_MAX {
            self.counts.examples.push(what);
        }
    }
}

/// Reads a topic from its beginning to its present end.
pub(crate) async fn topic(
    servers: &str,
    topic: &str,
    committed: HashMap<String, i64>,
    after: HashMap<String, i64>,
) -> Result<Seen> {
    let (servers, topic) = (servers.to_owned(), topic.to_owned());
    tokio::task::spawn_blocking(move || read(&servers, &topic, &committed, &after)).await?
}

fn read(
    servers: &str,
    topic: &str,
    committed: &HashMap<String, i64>,
    after: &HashMap<String, i64>,
) -> Result<Seen> {
    let consumer: BaseConsumer =
        client(servers).set("group.id", "verifier").set("enable.auto.commit", "false").create()?;
    let mut ends = ends(&consumer, topic)?;
    let mut all = TopicPartitionList::new();
    for partition in ends.keys() {
        all.add_partition_offset(topic, *partition, Offset::Beginning)?;
    }
    consumer.assign(&all)?;
    ends.retain(|_, end| *end > 0);
    let mut verifier = Verifier::default();
    let mut last = Instant::now();
    while !ends.is_empty() {
        if last.elapsed() > READ_TIMEOUT {
            bail!("{topic} went silent before its end");
        }
        // A fault of the broker's may pass.
        let Some(Ok(record)) = consumer.poll(POLL) else { continue };
        last = Instant::now();
        if !ends.contains_key(&record.partition()) {
            continue;
        }
        let at = record.timestamp().to_millis().context("a record without a time")?;
        let key = record.key().map(String::from_utf8_lossy);
        let from = key.as_deref().and_then(|key| after.get(key)).copied().unwrap_or(0);
        verifier.take(record.partition(), at, record.key(), record.payload().unwrap_or_default(), from);
        if ends.get(&record.partition()).is_some_and(|end| record.offset() + 1 >= *end) {
            ends.remove(&record.partition());
        }
    }
    Ok(verifier.finish(committed))
}

/// The end of each partition.
pub(crate) fn ends(consumer: &BaseConsumer, topic: &str) -> Result<HashMap<i32, i64>> {
    let metadata = consumer.fetch_metadata(Some(topic), REQUEST_TIMEOUT)?;
    let partitions = metadata.topics().first().map(|found| found.partitions()).unwrap_or_default();
    ensure!(!partitions.is_empty(), "there is no topic {topic}");
    let mut ends = HashMap::new();
    for partition in partitions {
        let (_, end) = consumer.fetch_watermarks(topic, partition.id(), REQUEST_TIMEOUT)?;
        ends.insert(partition.id(), end);
    }
    Ok(ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(records: &[(i32, &str, i64)], committed: &[(&str, i64)]) -> Delivery {
        let mut verifier = Verifier::default();
        for (at, (partition, key, version)) in (0..).zip(records) {
            let payload = format!("{{\"key\":\"{key}\",\"version\":{version},\"pad\":\"\"}}");
            verifier.take(*partition, at, Some(key.as_bytes()), payload.as_bytes(), 0);
        }
        let committed = committed.iter().map(|(key, last)| ((*key).to_owned(), *last)).collect();
        verifier.finish(&committed).delivery
    }

    fn counts(delivery: &Delivery) -> [u64; 4] {
        [delivery.lost, delivery.repeated, delivery.inverted, delivery.unknown]
    }

    #[test]
    fn what_came_in_order_once_is_in_order() {
        let all = counted(&[(0, "a", 1), (1, "b", 1), (0, "a", 2)], &[("a", 2), ("b", 1)]);
        assert_eq!((counts(&all), all.committed, all.records), ([0; 4], 3, 3));
    }

    #[test]
    fn a_missing_version_is_lost_even_at_the_end() {
        assert_eq!(counts(&counted(&[(0, "a", 2)], &[("a", 3)])), [2, 0, 0, 0]);
        assert_eq!(counts(&counted(&[], &[("a", 1)])), [1, 0, 0, 0]);
    }

    #[test]
    fn a_repeat_is_no_inversion_but_a_late_first_delivery_is() {
        assert_eq!(counts(&counted(&[(0, "a", 1), (0, "a", 2), (0, "a", 1)], &[("a", 2)])), [0, 1, 0, 0]);
        assert_eq!(counts(&counted(&[(0, "a", 2), (0, "a", 1)], &[("a", 2)])), [0, 0, 1, 0]);
    }

    #[test]
    fn what_was_never_committed_or_moved_is_unknown() {
        assert_eq!(counts(&counted(&[(0, "a", 1), (0, "a", 2)], &[("a", 1)])), [0, 0, 0, 1]);
        assert_eq!(counts(&counted(&[(0, "a", 1), (1, "a", 2)], &[("a", 2)])), [1, 0, 0, 1]);
        assert_eq!(counts(&counted(&[(0, "x", 1)], &[])), [0, 0, 0, 1]);
    }
}
