//! Who of a group reads which partition, and how far it is.

use std::collections::BTreeMap;

use crate::{Place, Topic};

/// A consumer group.
#[derive(Default)]
pub(super) struct Group {
    /// Members by number, with the topics they read.
    members: BTreeMap<u64, Vec<Topic>>,
    positions: BTreeMap<(Topic, i32), Position>,
    /// What each member has got and not asked for yet.
    assigned: BTreeMap<u64, Vec<Place>>,
}

#[derive(Default)]
struct Position {
    holder: Option<u64>,
    /// The offset that the holder reads next.
    next: i64,
    /// All below is noted as done.
    done: i64,
}

impl Group {
    /// The offset up to which all of a partition is noted as done; none where the group has not begun.
    pub(super) fn position(&self, topic: Topic, partition: i32) -> Option<i64> {
        self.positions.get(&(topic, partition)).map(|position| position.done)
    }

    pub(super) fn has_members(&self) -> bool {
        !self.members.is_empty()
    }

    /// Takes a member in; partitions that are new to the group begin at 0.
    pub(super) fn join(&mut self, member: u64, topics: &[Topic], partitions: i32) {
        self.members.insert(member, topics.to_vec());
        for topic in topics {
            for partition in 0..partitions {
                self.positions.entry((*topic, partition)).or_default();
            }
        }
        self.share();
    }

    /// Makes an offset the group's position in a partition.
    pub(super) fn put(&mut self, topic: Topic, partition: i32, offset: i64) {
        self.positions.insert((topic, partition), Position { holder: None, next: offset, done: offset });
    }

    pub(super) fn leave(&mut self, member: u64) {
        self.members.remove(&member);
        self.assigned.remove(&member);
        self.share();
    }

    /// Deals the partitions out again, by turns. Who keeps one reads on; a new holder begins at what is done.
    fn share(&mut self) {
        for ((topic, partition), position) in &mut self.positions {
            let readers: Vec<u64> = self
                .members
                .iter()
                .filter(|(_, topics)| topics.contains(topic))
                .map(|(member, _)| *member)
                .collect();
            let turn = usize::try_from(*partition).unwrap_or(0);
            let holder = turn.checked_rem(readers.len()).and_then(|n| readers.get(n).copied());
            if holder != position.holder {
                *position = Position { holder, next: position.done, done: position.done };
                if let Some(holder) = holder {
                    let place = Place { topic: *topic, partition: *partition, position: Some(position.done) };
                    self.assigned.entry(holder).or_default().push(place);
                }
            }
        }
    }

    /// What a member has got since it was asked for last.
    pub(super) fn take_assigned(&mut self, member: u64) -> Vec<Place> {
        self.assigned.remove(&member).unwrap_or_default()
    }

    /// The places a member reads next.
    pub(super) fn held(&self, member: u64) -> impl Iterator<Item = (Topic, i32, i64)> {
        self.positions
            .iter()
            .filter(move |(_, position)| position.holder == Some(member))
            .map(|((topic, partition), position)| (*topic, *partition, position.next))
    }

    pub(super) fn advance(&mut self, topic: Topic, partition: i32) {
        if let Some(position) = self.positions.get_mut(&(topic, partition)) {
            position.next += 1;
        }
    }

    /// Notes a record as done, if its partition is still this member's.
    pub(super) fn done(&mut self, member: u64, topic: &str, partition: i32, offset: i64) {
        let at = |((t, p), _): &(&(Topic, i32), &mut Position)| t.name() == topic && *p == partition;
        if let Some((_, position)) = self.positions.iter_mut().find(at)
            && position.holder == Some(member)
        {
            position.done = position.done.max(offset.saturating_add(1));
        }
    }

    pub(super) fn rewind(&mut self) {
        for position in self.positions.values_mut() {
            *position = Position { holder: position.holder, next: 0, done: 0 };
        }
    }
}
