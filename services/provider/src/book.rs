//! All that the provider knows, in memory: the fold of the journal's lines.

mod index;
mod keys;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use time::format_description::well_known::Rfc3339;

use crate::call::Call;
use crate::clock::{journaled_ms, now};
use crate::control::{Control, Lies};
use crate::event::Event;
use crate::failure::Failure;
use crate::intent::Intent;
use crate::line::{Answer, Later, Line, Movement};
use crate::refund::Refund;
use crate::rules::Change;
use crate::script::{Mark, Orders};
use crate::webhook::Queue;

use index::Index;
pub(crate) use keys::Keys;

/// The state after a line.
#[derive(Debug)]
pub(crate) struct Book {
    seq: u64,
    intents: BTreeMap<String, Intent>,
    refunds: BTreeMap<String, Refund>,
    index: Index,
    movements: Vec<Entry>,
    lies: Lies,
    orders: Orders,
    /// What payment methods did for the first and only time; see [`Mark::Once`].
    once: HashSet<String>,
    /// Requests that are still to be done, by the line that they stand in.
    later: BTreeMap<u64, Later>,
    /// Whether anyone is to be told of what happens.
    tells: bool,
    pub(crate) keys: Keys,
    pub(crate) webhooks: Queue,
}

/// A movement with its place in the journal.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Entry {
    pub(crate) seq: u64,
    pub(crate) at: String,
    /// The same moment, in milliseconds since 1970.
    #[serde(skip)]
    pub(crate) at_ms: i64,
    #[serde(flatten)]
    pub(crate) movement: Movement,
}

impl Book {
    /// The book after all of a journal's lines. It keeps keys for their lifetime, and makes events if it is to tell.
    pub(crate) fn of(lines: Vec<Line>, key_lifetime: Duration, tells: bool) -> Self {
        let mut book = Self {
            seq: 0,
            intents: BTreeMap::new(),
            refunds: BTreeMap::new(),
            index: Index::default(),
            movements: Vec::new(),
            lies: Lies::default(),
            orders: Orders::default(),
            once: HashSet::new(),
            later: BTreeMap::new(),
            tells,
            keys: Keys::new(key_lifetime),
            webhooks: Queue::default(),
        };
        lines.into_iter().for_each(|line| book.apply(line));
        book
    }

    /// The last line that is part of this state.
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }

    /// Enters a change and returns the line that must be written before anyone hears of it.
    pub(crate) fn enter(&mut self, change: Change, call: Option<&Call>) -> Line {
        let answer = change.reply.zip(call).and_then(|(reply, call)| {
            Some(Answer {
                key: call.key.clone()?,
                fingerprint: call.fingerprint.clone(),
                status: reply.status.as_u16(),
                body: reply.body,
                since_ms: Some(call.since_ms),
            })
        });
        let line = Line {
            seq: self.seq + 1,
            at: now().format(&Rfc3339).unwrap_or_default(),
            movement: change.movement,
            intent: change.intent,
            refund: change.refund,
            answer,
            control: change.control,
            events: change.topics.into_iter().filter(|_| self.tells).map(Event::new).collect(),
            delivered: change.delivered,
            later: change.later,
            ends: change.ends,
            mark: change.mark,
        };
        self.apply(line.clone());
        line
    }

    fn apply(&mut self, line: Line) {
        let at_ms = journaled_ms(&line.at);
        self.seq = line.seq;
        self.tell(&line, at_ms);
        if let Some(intent) = line.intent {
            self.index.tag(&intent);
            self.intents.insert(intent.id.clone(), intent);
        }
        if let Some(refund) = line.refund {
            self.index.refund(&refund);
            self.refunds.insert(refund.id.clone(), refund);
        }
        if let Some(answer) = line.answer {
            self.keys.keep(answer, at_ms);
        }
        if let Some(movement) = line.movement {
            self.movements.push(Entry { seq: line.seq, at: line.at, at_ms, movement });
        }
        if let Some(later) = line.later {
            self.later.insert(line.seq, later);
        }
        if let Some(seq) = line.ends {
            self.later.remove(&seq);
        }
        match line.mark {
            Some(Mark::Used(seq)) => self.orders.used(seq),
            Some(Mark::Once(first)) => drop(self.once.insert(first)),
            None => {}
        }
        match line.control {
            Some(Control::Settlements(lies)) => self.lies = lies,
            Some(Control::Webhooks(mischief)) => self.webhooks.obey(mischief),
            Some(Control::Script(order)) => self.orders.add(line.seq, order),
            None => {}
        }
    }

    /// Queues the events of a line, and takes out those that are through. Without anyone to tell there is no queue.
    fn tell(&mut self, line: &Line, at_ms: i64) {
        for event in line.events.iter().filter(|_| self.tells) {
            let body = event.body(line).to_string();
            self.webhooks.push(event.id.clone(), line.seq, at_ms, body.into());
        }
        line.delivered.iter().for_each(|id| self.webhooks.delivered(id));
    }

    pub(crate) fn intent(&self, id: &str) -> Result<&Intent, Failure> {
        self.intents.get(id).ok_or_else(|| Failure::missing("payment_intent", id))
    }

    pub(crate) fn refund(&self, id: &str) -> Result<&Refund, Failure> {
        self.refunds.get(id).ok_or_else(|| Failure::missing("refund", id))
    }

    /// Newest first.
    pub(crate) fn intents(&self) -> impl Iterator<Item = &Intent> {
        self.intents.values().rev()
    }

    /// Newest first; those that carry the tag, if it is one that is kept track of.
    pub(crate) fn tagged(&self, name: &str, value: &str) -> Box<dyn Iterator<Item = &Intent> + '_> {
        match self.index.tagged(name, value) {
            Some(ids) => Box::new(ids.filter_map(|id| self.intents.get(id))),
            None => Box::new(self.intents()),
        }
    }

    /// Newest first, of one intent or of all.
    pub(crate) fn refunds(&self, intent: Option<&str>) -> Box<dyn Iterator<Item = &Refund> + '_> {
        match intent {
            Some(intent) => Box::new(self.index.refunds(intent).filter_map(|id| self.refunds.get(id))),
            None => Box::new(self.refunds.values().rev()),
        }
    }

    /// Oldest first.
    pub(crate) fn movements(&self) -> &[Entry] {
        &self.movements
    }

    /// What requests are told to come to.
    pub(crate) fn orders(&self) -> &Orders {
        &self.orders
    }

    /// Whether something that happens once did.
    pub(crate) fn happened(&self, first: &str) -> bool {
        self.once.contains(first)
    }

    /// The requests that are still to be done.
    pub(crate) fn later(&self) -> impl Iterator<Item = (u64, &Later)> {
        self.later.iter().map(|(seq, later)| (*seq, later))
    }

    /// What the settlement list is told to say.
    pub(crate) fn lies(&self) -> &Lies {
        &self.lies
    }
}

/// The book, whoever panicked over it before.
pub(crate) fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}
