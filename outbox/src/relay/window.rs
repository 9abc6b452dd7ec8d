//! The rows that a relay keeps in memory: per key a chain, in the order of positions.
//!
//! The first row of a chain may be sent: the statement that read it found its previous row gone, or this relay's own deletion
//! of that row has committed. The rows behind it wait here and are not read again. Rows of a key beyond the bound of its
//! chain, or behind a refused row, are not kept: a *rest* remembers where they begin, and they are read when their turn is
//! near. What falls through (a row whose previous one is not known here) is found by the reader's passes, once that is gone.

mod held;
mod rests;
mod taking;

use std::collections::{HashMap, HashSet, VecDeque};

use time::OffsetDateTime;

use super::gone::{Fate, Gone};
use crate::store::{Ahead, Pending};

/// Rows of one key that are kept at least, when the window is more than half full.
const NARROW: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    /// Being fetched, in flight, or being forgotten.
    Taken,
    /// Forgotten by the database, but behind one that is not.
    Passed,
}

#[derive(Debug)]
struct Row {
    chain: u64,
    next: Option<i64>,
    created_at: OffsetDateTime,
    state: State,
}

#[derive(Debug)]
struct Chain {
    bucket: i16,
    head: i64,
    tail: i64,
    len: usize,
    taken: usize,
    /// In the queue of those that may send.
    queued: bool,
    /// Kept back, because its lane is down.
    held: bool,
}

/// Where the rows of a key that are not kept begin: behind position `link`, and beyond position `from`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rest {
    pub(super) bucket: i16,
    pub(super) link: i64,
    pub(super) from: i64,
    /// The last row of the bucket that had been dropped when the reading began.
    dropped: i64,
}

/// A row to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) bucket: i16,
    pub(super) position: i64,
    pub(super) created_at: OffsetDateTime,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Window {
    max: usize,
    per_key: usize,
    rows: HashMap<i64, Row>,
    chains: HashMap<u64, Chain>,
    tails: HashMap<i64, u64>,
    rests: HashMap<i64, Rest>,
    refills: VecDeque<Rest>,
    ready: VecDeque<u64>,
    /// Per bucket, the last row that was not kept.
    dropped: HashMap<i16, i64>,
    /// Chains that are held, and their rows.
    held: (usize, usize),
    serial: u64,
    pub(super) gone: Gone,
}

impl Window {
    /// Of at most about `max` rows, with `per_key` of a key taken at once.
    pub(super) fn new(max: usize, per_key: usize) -> Self {
        Self {
            max: max.max(1),
            per_key: per_key.max(1),
            rows: HashMap::new(),
            chains: HashMap::new(),
            tails: HashMap::new(),
            rests: HashMap::new(),
            refills: VecDeque::new(),
            ready: VecDeque::new(),
            dropped: HashMap::new(),
            held: (0, 0),
            serial: 0,
            gone: Gone::default(),
        }
    }

    /// How many more rows are wanted, when `keys` keys are enough to keep all slots busy. Above half, more rows help only if
    /// too few keys are here.
    pub(super) fn room(&self, keys: usize) -> usize {
        if self.rows.len() < self.max / 2 || self.chains.len() - self.held.0 < keys {
            self.max.saturating_sub(self.rows.len())
        } else {
            0
        }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether the row was taken and not given back.
    pub(super) fn is_taken(&self, position: i64) -> bool {
        self.rows.get(&position).is_some_and(|row| row.state == State::Taken)
    }

    pub(super) fn contains(&self, position: i64) -> bool {
        self.rows.contains_key(&position)
    }

    /// Whether the next row of its key is known, and waits for this one's deletion.
    pub(super) fn is_waited_for(&self, position: i64) -> bool {
        self.rows.get(&position).is_some_and(|row| row.next.is_some()) || self.rests.contains_key(&position)
    }

    /// Chains that may send.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Takes a row in, if it is new and its key's order allows. False when it was not kept.
    pub(super) fn offer(&mut self, row: &Pending) -> bool {
        if self.rows.contains_key(&row.position) || self.gone.fate(row.position).is_some() {
            return false;
        }
        let kept = match (self.ahead(row), row.previous) {
            (Ahead::Gone, _) => {
                self.start(row);
                true
            }
            (Ahead::Waiting, Some(previous)) => self.append(row, previous),
            (Ahead::Refused, Some(previous)) => {
                self.rest(previous, row);
                false
            }
            (_, None) => false,
        };
        if !kept {
            let last = self.dropped.entry(row.bucket).or_default();
            *last = row.position.max(*last);
        }
        kept
    }

    /// Takes in a row that was found on its own and may be sent; rows of its key may follow it unseen.
    pub(super) fn offer_alone(&mut self, row: &Pending) -> bool {
        if self.ahead(row) != Ahead::Gone || !self.offer(row) {
            return false;
        }
        self.rest(row.position, row);
        true
    }

    /// What is ahead of a row, with what happened since it was read.
    fn ahead(&self, row: &Pending) -> Ahead {
        match row.previous.and_then(|previous| self.gone.fate(previous)) {
            Some(Fate::Removed) => Ahead::Gone,
            Some(Fate::Refused) if row.ahead != Ahead::Gone => Ahead::Refused,
            _ => row.ahead,
        }
    }

    fn start(&mut self, row: &Pending) {
        if let Some(previous) = row.previous {
            // It begins here, and goes on behind this row.
            if self.rests.remove(&previous).is_some() {
                self.rest(row.position, row);
            }
        }
        self.serial += 1;
        let chain = Chain {
            bucket: row.bucket,
            head: row.position,
            tail: row.position,
            len: 1,
            taken: 0,
            queued: false,
            held: false,
        };
        self.insert(row, self.serial);
        self.chains.insert(self.serial, chain);
        self.queue(self.serial);
    }

    fn append(&mut self, row: &Pending, previous: i64) -> bool {
        let bound = self.bound();
        let Some(id) = self.tails.get(&previous).copied() else { return false };
        let Some(chain) = self.chains.get_mut(&id) else { return false };
        if chain.len >= bound || chain.held {
            self.rest(previous, row);
            return false;
        }
        chain.tail = row.position;
        chain.len += 1;
        self.tails.remove(&previous);
        if let Some(before) = self.rows.get_mut(&previous) {
            before.next = Some(row.position);
        }
        if self.rests.remove(&previous).is_some() {
            self.rest(row.position, row);
        }
        self.insert(row, id);
        self.queue(id);
        true
    }

    fn insert(&mut self, row: &Pending, chain: u64) {
        let kept = Row { chain, next: None, created_at: row.created_at, state: State::Waiting };
        self.rows.insert(row.position, kept);
        self.tails.insert(row.position, chain);
    }

    /// How many rows of one key are kept: above half no more than its share, so that others find room.
    fn bound(&self) -> usize {
        let share = (self.max / self.chains.len().max(1)).max(NARROW);
        let narrow = if self.rows.len() < self.max / 2 { self.max } else { share };
        (self.max / 64).clamp(1, narrow)
    }

    /// Remembers that rows behind `link` begin at this row (or beyond it, when it is the link).
    fn rest(&mut self, link: i64, row: &Pending) {
        let from = if link == row.position { link } else { row.position - 1 };
        self.remember(Rest { bucket: row.bucket, link, from, dropped: 0 });
    }

    /// Beyond the bound a rest is not remembered: a pass finds its first row once the row before is gone.
    fn remember(&mut self, rest: Rest) {
        if self.rests.len() < self.max {
            self.rests.entry(rest.link).or_insert(rest);
        }
    }

    fn queue(&mut self, id: u64) {
        let Some(chain) = self.chains.get_mut(&id) else { return };
        let waiting = chain.len > chain.taken;
        if waiting && chain.taken < self.per_key && !chain.queued && !chain.held {
            chain.queued = true;
            self.ready.push_back(id);
        }
    }

    /// The row's deletion has committed: the next one of its key may be sent.
    pub(super) fn removed(&mut self, position: i64) {
        self.gone.note(position, Fate::Removed);
        if let Some(row) = self.rows.get_mut(&position) {
            let (id, was) = (row.chain, row.state);
            row.state = State::Passed;
            self.advance(id, was == State::Taken);
        }
        // Of a row that is not kept itself, such as a refused one.
        if !self.rows.contains_key(&position) {
            self.want(position);
        }
    }

    /// Drops what has passed from the front of a chain.
    fn advance(&mut self, id: u64, was_taken: bool) {
        let bound = self.bound();
        let Some(chain) = self.chains.get_mut(&id) else { return };
        chain.taken -= usize::from(was_taken);
        while let Some(row) = self.rows.get(&chain.head).filter(|row| row.state == State::Passed) {
            let next = row.next;
            self.rows.remove(&chain.head);
            chain.len -= 1;
            if chain.held {
                self.held.1 -= 1;
            }
            let Some(next) = next else {
                let tail = chain.tail;
                if chain.held {
                    self.held.0 -= 1;
                }
                self.tails.remove(&tail);
                self.chains.remove(&id);
                self.want(tail);
                return;
            };
            chain.head = next;
        }
        let (tail, low) = (chain.tail, chain.len <= bound / 2);
        if low {
            self.want(tail);
        }
        self.queue(id);
    }

    /// The rows behind this one are wanted now.
    fn want(&mut self, link: i64) {
        if let Some(rest) = self.rests.remove(&link) {
            self.refills.push_back(rest);
        }
    }

    /// The refusal was noted: the row goes through the lane of the refused, its key waits for it.
    pub(super) fn refused(&mut self, bucket: i16, position: i64) {
        self.gone.note(position, Fate::Refused);
        let Some(id) = self.rows.get(&position).map(|row| row.chain) else { return };
        let more =
            self.chains.get(&id).is_some_and(|chain| chain.len > 1 || self.rests.contains_key(&chain.tail));
        self.forget(id);
        if more {
            self.remember(Rest { bucket, link: position, from: position, dropped: 0 });
        }
    }

    fn forget(&mut self, id: u64) {
        let Some(chain) = self.chains.remove(&id) else { return };
        if chain.held {
            self.held = (self.held.0 - 1, self.held.1 - chain.len);
        }
        self.tails.remove(&chain.tail);
        self.rests.remove(&chain.tail);
        let mut at = Some(chain.head);
        while let Some(row) = at.and_then(|position| self.rows.remove(&position)) {
            at = row.next;
        }
    }

    /// Keeps only what belongs to these buckets.
    pub(super) fn keep(&mut self, buckets: &HashSet<i16>) {
        let lost: Vec<u64> = self
            .chains
            .iter()
            .filter(|(_, chain)| !buckets.contains(&chain.bucket))
            .map(|(id, _)| *id)
            .collect();
        for id in lost {
            self.forget(id);
        }
        self.rests.retain(|_, rest| buckets.contains(&rest.bucket));
        self.refills.retain(|rest| buckets.contains(&rest.bucket));
        self.dropped.retain(|bucket, _| buckets.contains(bucket));
    }
}

#[cfg(test)]
mod tests;
