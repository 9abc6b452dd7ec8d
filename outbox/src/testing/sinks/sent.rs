//! What was sent, and the comparison with what is in the log.

use std::collections::{BTreeMap, HashMap};

use super::{Report, Rule};
use crate::{Headers, Message, Record, Refusal, Topic};

/// Finds a record again.
const NUMBER: &str = "suite-number";

/// What a send promised.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// It is there.
    Delivered,
    /// It is not there.
    Absent,
    /// It may be there.
    Either,
}

struct Noted {
    record: Record,
    expected: Expected,
    /// The rule that is broken when this was not kept.
    rule: Rule,
}

/// What was sent, by the number in each record's header.
#[derive(Default)]
pub(super) struct Sent {
    drawn: usize,
    records: BTreeMap<usize, Noted>,
}

impl Sent {
    /// Makes a record.
    pub(super) fn record(&mut self, topic: Topic, key: String, payload: Vec<u8>) -> Record {
        let mut headers = Headers::default();
        headers.set("tenant", "Ærø ✓").set("empty", "");
        let record = Record { topic: topic.name().into(), key, payload, headers };
        self.numbered(record)
    }

    /// Gives a record its number.
    pub(super) fn numbered(&mut self, mut record: Record) -> Record {
        self.drawn += 1;
        record.headers.set(NUMBER, self.drawn.to_string());
        record
    }

    /// Notes a good record that was sent with this result; none when it took too long.
    pub(super) fn note(
        &mut self,
        record: Record,
        result: Option<Result<(), Refusal>>,
        rule: Rule,
        report: &mut Report,
    ) {
        let expected = match result {
            Some(Ok(())) => Expected::Delivered,
            Some(Err(error)) => {
                report.broken(rule, format!("a good record, {}, was not sent: {error}", name(&record)));
                Expected::Either
            }
            None => Expected::Either,
        };
        self.note_as(record, expected, rule);
    }

    pub(super) fn note_as(&mut self, record: Record, expected: Expected, rule: Rule) {
        let number = record.headers.get(NUMBER).and_then(|number| number.parse().ok()).unwrap_or(0);
        self.records.insert(number, Noted { record, expected, rule });
    }

    /// How many must be there.
    pub(super) fn delivered(&self) -> usize {
        self.records.values().filter(|noted| noted.expected == Expected::Delivered).count()
    }

    /// The record of a message.
    fn of(&self, message: &Message) -> Option<(usize, &Noted)> {
        let (_, value) = message.headers.iter().find(|(name, _)| name == NUMBER)?;
        let number = value.parse().ok()?;
        Some((number, self.records.get(&number)?))
    }

    /// Compares with what is in the log.
    pub(super) fn compare(&self, found: &[Message], report: &mut Report) {
        let mut copies: HashMap<usize, usize> = HashMap::new();
        for message in found {
            match self.of(message) {
                Some((number, noted)) => {
                    *copies.entry(number).or_default() += 1;
                    unchanged(&noted.record, message, report);
                }
                None => report.broken(Rule::Headers, format!("a record arrived without its header {NUMBER}")),
            }
        }
        for (number, Noted { record, expected, rule }) in &self.records {
            match (copies.contains_key(number), expected) {
                (false, Expected::Delivered) => {
                    report.broken(
                        *rule,
                        format!("{} was reported as delivered and is not there", name(record)),
                    );
                }
                (true, Expected::Absent) => {
                    report.broken(*rule, format!("{} was refused and is there", name(record)));
                }
                _ => {}
            }
        }
        self.places(found, report);
    }

    /// Per key one partition, and first copies in the order of the sends.
    fn places(&self, found: &[Message], report: &mut Report) {
        let mut partitions: HashMap<&str, i32> = HashMap::new();
        let mut highest: HashMap<&str, usize> = HashMap::new();
        let mut seen: Vec<usize> = Vec::new();
        for message in found {
            let Some((number, noted)) = self.of(message) else { continue };
            let key = noted.record.key.as_str();
            if *partitions.entry(key).or_insert(message.partition) != message.partition {
                report.broken(Rule::OnePartition, format!("{}: its key is in two", name(&noted.record)));
            }
            if seen.contains(&number) {
                continue;
            }
            seen.push(number);
            if highest.insert(key, number).is_some_and(|before| before > number) {
                report.broken(Rule::Order, format!("{}: a later one came first", name(&noted.record)));
            }
        }
    }
}

fn unchanged(record: &Record, copy: &Message, report: &mut Report) {
    if copy.key.as_deref() != Some(record.key.as_bytes()) || copy.payload != record.payload {
        report.broken(Rule::Delivered, format!("{}: key or payload have changed", name(record)));
    }
    for (header, value) in record.headers.iter() {
        if !copy.headers.iter().any(|(n, v)| n == header && v == value) {
            report.broken(Rule::Headers, format!("{}: header {header} is missing or changed", name(record)));
        }
    }
}

fn name(record: &Record) -> String {
    let key: String = record.key.chars().take(20).collect();
    format!("record {} of key {key}", record.headers.get(NUMBER).unwrap_or("?"))
}
