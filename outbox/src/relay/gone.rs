//! What left the window lately.
//!
//! A scan sees the queue as it was when its statement began. A row that was forgotten or refused meanwhile is in its answer
//! still; here is what makes up for that. Departures are kept only while a scan runs that may not have seen them.

use std::collections::{HashMap, VecDeque};

/// How a row left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Delivered, and its deletion committed.
    Removed,
    /// Refused, and that was noted.
    Refused,
}

/// A running scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scan(u64);

#[derive(Debug, Default)]
pub(super) struct Gone {
    tick: u64,
    running: Vec<Scan>,
    fates: HashMap<i64, (u64, Fate)>,
    order: VecDeque<(u64, i64)>,
}

impl Gone {
    /// Before a scan's statement is sent.
    pub(super) fn begin(&mut self) -> Scan {
        self.tick += 1;
        let scan = Scan(self.tick);
        self.running.push(scan);
        scan
    }

    /// After its answer was taken in.
    pub(super) fn end(&mut self, scan: Scan) {
        self.running.retain(|running| *running != scan);
        let oldest = self.running.iter().map(|running| running.0).min().unwrap_or(u64::MAX);
        while let Some((tick, position)) = self.order.front().copied().filter(|(tick, _)| *tick < oldest) {
            self.order.pop_front();
            if self.fates.get(&position).is_some_and(|(noted, _)| *noted == tick) {
                self.fates.remove(&position);
            }
        }
    }

    pub(super) fn note(&mut self, position: i64, fate: Fate) {
        if self.running.is_empty() {
            return;
        }
        self.tick += 1;
        self.fates.insert(position, (self.tick, fate));
        self.order.push_back((self.tick, position));
    }

    pub(super) fn fate(&self, position: i64) -> Option<Fate> {
        self.fates.get(&position).map(|(_, fate)| *fate)
    }
}
