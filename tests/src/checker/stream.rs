//! The topic holds what was committed, all of it and nothing else, and per key in order.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Event, Evidence, Findings};
use crate::kafka::Record;

pub(super) fn check(evidence: &Evidence, findings: &mut Findings) {
    delivered(evidence, findings);
    committed(evidence, findings);
    ordered(evidence, findings);
}

fn delivered(evidence: &Evidence, findings: &mut Findings) {
    let ids: BTreeSet<&str> = evidence.records.iter().map(|record| record.header("ce_id")).collect();
    for (name, home) in evidence.homes() {
        for event in home.events.iter().filter(|event| !ids.contains(event.id.as_str())) {
            let why =
                format!("version {} was committed at the {name} and is not in the topic", event.version);
            findings.events_lost.add(stream(&event.topic, &event.key), why);
        }
    }
}

fn committed(evidence: &Evidence, findings: &mut Findings) {
    let events: HashMap<&str, &Event> =
        evidence.homes().flat_map(|(_, home)| &home.events).map(|event| (event.id.as_str(), event)).collect();
    for record in &evidence.records {
        let same = events
            .get(record.header("ce_id"))
            .is_some_and(|event| (&event.key, event.version) == (&record.key, record.version()));
        if !same {
            let why = format!("version {} is in the topic and was committed nowhere", record.version());
            findings.events_lost.add(stream(&record.topic, &record.key), why);
        }
    }
}

/// First deliveries carry 1, 2, 3 .. in one partition, or go on from what is older than the log; a repeat has the id of the first.
fn ordered(evidence: &Evidence, findings: &mut Findings) {
    let mut streams: BTreeMap<(&str, &str), Vec<&Record>> = BTreeMap::new();
    for record in &evidence.records {
        streams.entry((&record.topic, &record.key)).or_default().push(record);
    }
    for ((topic, key), records) in streams {
        let before = evidence.older.get(key).copied().unwrap_or(0);
        for why in disorder(&records, before) {
            findings.events_out_of_order.add(stream(topic, key), why);
        }
    }
}

fn disorder(records: &[&Record], before: i64) -> Vec<String> {
    let mut reasons = Vec::new();
    let mut ids: BTreeMap<i64, &str> = BTreeMap::new();
    let partitions: BTreeSet<i32> = records.iter().map(|record| record.partition).collect();
    if partitions.len() > 1 {
        reasons.push(format!("it is in partitions {partitions:?}"));
    }
    for record in records {
        let (version, id) = (record.version(), record.header("ce_id"));
        match ids.get(&version) {
            Some(first) if *first == id => continue,
            Some(_) => reasons.push(format!("two events are version {version}")),
            None => {}
        }
        let last = ids.keys().next_back().copied().unwrap_or(before);
        if version != last + 1 && !ids.contains_key(&version) {
            reasons.push(format!("version {version} came first after version {last}"));
        }
        ids.entry(version).or_insert(id);
    }
    reasons
}

fn stream(topic: &str, key: &str) -> String {
    format!("{topic}/{key}")
}
