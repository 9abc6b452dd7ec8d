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
    /// Keys with something waiting that are not in work, in the order in which they came: those whose next record may share a
    /// transaction.
    ready: VecDeque<String>,
    /// The same, of those whose next record takes one for itself.
    alone: VecDeque<String>,
    /// Whose turn it was last.
    was_alone: bool,
    busy: HashSet<String>,
}

impl Lane {
    pub(super) fn new(gate: Arc<Gate>) -> Self {
        Self {
            gate,
            waiting: HashMap::new(),
            ready: VecDeque::new(),
            alone: VecDeque::new(),
            was_alone: false,
            busy: HashSet::new(),
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        !self.ready.is_empty() || !self.alone.is_empty()
    }

    pub(super) fn push(&mut self, item: Item) {
        let key = &item.event.key;
        if let Some(queue) = self.waiting.get_mut(key) {
            queue.push_back(item);
            return;
        }
        let key = key.clone();
        self.waiting.insert(key.clone(), VecDeque::from([item]));
        if !self.busy.contains(&key) {
            self.make_ready(key);
        }
    }

    /// The next batch: at most `max` records, of keys that nobody else has in work; or the records of one key, where each takes a
    /// transaction for itself: more keys in one hand would leave the other connections idle.
    pub(super) fn take(&mut self, max: usize) -> Vec<Item> {
        self.was_alone = !self.alone.is_empty() && (self.ready.is_empty() || !self.was_alone);
        let mut batch = Vec::new();
        while batch.len() < max {
            let ready = if self.was_alone { &mut self.alone } else { &mut self.ready };
            let Some(key) = ready.pop_front() else { break };
            let Some(mut queue) = self.waiting.remove(&key) else { continue };
            let rest = queue.split_off(queue.len().min(max - batch.len()));
            batch.extend(queue);
            if !rest.is_empty() {
                self.waiting.insert(key.clone(), rest);
            }
            self.busy.insert(key);
            if self.was_alone {
                break;
            }
        }
        batch
    }

    /// Gives keys back whose batch has ended.
    pub(super) fn release(&mut self, keys: impl IntoIterator<Item = String>) {
        for key in keys {
            if self.busy.remove(&key) && self.waiting.contains_key(&key) {
                self.make_ready(key);
            }
        }
    }

    fn make_ready(&mut self, key: String) {
        let next = self.waiting.get(&key).and_then(VecDeque::front);
        let together = next.is_none_or(|item| self.gate.takes_in_batches(&item.event));
        if together { self.ready.push_back(key) } else { self.alone.push_back(key) }
    }
}
