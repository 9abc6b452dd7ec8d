//! The broker as a member of a consumer group sees it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;

use super::Memory;
use crate::{Error, Message, Place, Source, Topic};

/// A member of a group of a broker in memory. Made by [`Memory::source`] or [`super::pair`]; leaves the group when dropped.
pub struct MemorySource {
    memory: Memory,
    group: String,
    member: u64,
    turn: AtomicUsize,
    held: AtomicBool,
}

impl MemorySource {
    pub(super) fn new(memory: Memory, group: &str) -> Self {
        let mut state = memory.state();
        state.members += 1;
        let member = state.members;
        state.groups.entry(group.to_owned()).or_default();
        drop(state);
        Self {
            memory,
            group: group.to_owned(),
            member,
            turn: AtomicUsize::new(0),
            held: AtomicBool::new(false),
        }
    }

    /// The next record of a partition that this member holds, if one has come.
    fn next(&self) -> Option<Message> {
        let mut state = self.memory.state();
        let mut held: Vec<_> = state.groups.get(&self.group)?.held(self.member).collect();
        // By turns, so that a busy partition does not keep the others waiting.
        let turn = self.turn.fetch_add(1, Ordering::Relaxed).checked_rem(held.len())?;
        held.rotate_left(turn);
        let (topic, partition, message) = held.into_iter().find_map(|(topic, partition, next)| {
            let message = state.at(topic.name(), partition, next)?;
            Some((topic, partition, message.clone()))
        })?;
        state.groups.get_mut(&self.group)?.advance(topic, partition);
        Some(message)
    }
}

impl Drop for MemorySource {
    fn drop(&mut self) {
        if let Some(group) = self.memory.state().groups.get_mut(&self.group) {
            group.leave(self.member);
        }
        self.memory.0.changed.notify_waiters();
    }
}

#[async_trait]
impl Source for MemorySource {
    fn group(&self) -> &str {
        &self.group
    }

    async fn places(&self, topics: &[Topic]) -> Result<Vec<Place>, Error> {
        let state = self.memory.state();
        let group = state.groups.get(&self.group);
        let place = |topic: Topic, partition| {
            let position = group.and_then(|group| group.position(topic, partition));
            Place { topic, partition, position }
        };
        let partitions = self.memory.0.partitions;
        Ok(topics.iter().flat_map(|topic| (0..partitions).map(move |n| place(*topic, n))).collect())
    }

    async fn bounds(&self, places: &[Place]) -> Result<Vec<(i64, i64)>, Error> {
        let state = self.memory.state();
        Ok(places.iter().map(|place| (0, state.end(place.topic.name(), place.partition))).collect())
    }

    async fn reposition(&self, places: &[Place]) -> Result<(), Error> {
        let mut state = self.memory.state();
        let Some(group) = state.groups.get_mut(&self.group) else { return Ok(()) };
        if group.has_members() {
            return Err(Error::Broker(format!("group {} has members that read", self.group)));
        }
        for place in places {
            if let Some(offset) = place.position {
                group.put(place.topic, place.partition, offset);
            }
        }
        Ok(())
    }

    async fn start(&self, topics: &[Topic], _: &[Place]) -> Result<(), Error> {
        let partitions = self.memory.0.partitions;
        if let Some(group) = self.memory.state().groups.get_mut(&self.group) {
            group.join(self.member, topics, partitions);
        }
        self.memory.0.changed.notify_waiters();
        Ok(())
    }

    async fn recv(&self) -> Result<Message, Error> {
        loop {
            // Listens before it looks, so that nothing that comes in between is missed.
            let mut changed = std::pin::pin!(self.memory.0.changed.notified());
            changed.as_mut().enable();
            if !self.held.load(Ordering::SeqCst)
                && let Some(message) = self.next()
            {
                return Ok(message);
            }
            changed.await;
        }
    }

    fn done(&self, topic: &str, partition: i32, offset: i64) -> Result<(), Error> {
        if let Some(group) = self.memory.state().groups.get_mut(&self.group) {
            group.done(self.member, topic, partition, offset);
        }
        Ok(())
    }

    fn hold(&self, held: bool) {
        self.held.store(held, Ordering::SeqCst);
        self.memory.0.changed.notify_waiters();
    }

    fn assigned(&self) -> Vec<Place> {
        let mut state = self.memory.state();
        state.groups.get_mut(&self.group).map(|group| group.take_assigned(self.member)).unwrap_or_default()
    }

    /// None: a position is here for as long as the broker is, so there is nothing to remember of it.
    fn noted(&self) -> Vec<Place> {
        Vec::new()
    }
}
