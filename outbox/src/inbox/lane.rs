//! What waits for one handler, by key.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use super::{Gate, marks::Ticket};
use crate::envelope::Envelope;

/// A record for one handler.
pub(super) struct Item {
    pub(super) event: Arc<Envelope>,
    pub(super) ticket: Ticket,
}

/// The records of one handler. Those of a key stay in order and in one hand at a time; keys don't wait for each other.
pub(super) struct Lane {
    pub(super) gate: Arc<Gate>,
    waiting: HashMap<String, VecDeque<Item>>,
    /// Keys with something waiting that are not in work, in the order in which they came.
    ready: VecDeque<String>,
    busy: HashSet<String>,
}

impl Lane {
    pub(super) fn new(gate: Arc<Gate>) -> Self {
        Self { gate, waiting: HashMap::new(), ready: VecDeque::new(), busy: HashSet::new() }
    }

    pub(super) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(super) fn push(&mut self, item: Item) {
        let key = &item.event.key;
        if let Some(queue) = self.waiting.get_mut(key) {
            queue.push_back(item);
            return;
        }
        if !self.busy.contains(key) {
            self.ready.push_back(key.clone());
        }
        self.waiting.insert(key.clone(), VecDeque::from([item]));
    }

    /// The next batch: at most `max` records, of keys that nobody else has in work.
    pub(super) fn take(&mut self, max: usize) -> Vec<Item> {
        let mut batch = Vec::new();
        while batch.len() < max {
            let Some(key) = self.ready.pop_front() else { break };
            let Some(mut queue) = self.waiting.remove(&key) else { continue };
            let rest = queue.split_off(queue.len().min(max - batch.len()));
            batch.extend(queue);
            if !rest.is_empty() {
                self.waiting.insert(key.clone(), rest);
            }
            self.busy.insert(key);
        }
        batch
    }

    /// Gives keys back whose batch has ended.
    pub(super) fn release(&mut self, keys: impl IntoIterator<Item = String>) {
        for key in keys {
            if self.busy.remove(&key) && self.waiting.contains_key(&key) {
                self.ready.push_back(key);
            }
        }
    }
}
