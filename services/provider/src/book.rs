//! All that the provider knows, in memory: the fold of the journal's lines.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;
use time::format_description::well_known::Rfc3339;

use crate::call::Call;
use crate::failure::Failure;
use crate::intent::Intent;
use crate::line::{Answer, Line, Movement};
use crate::refund::Refund;
use crate::rules::{Change, now};

/// The state after a line.
#[derive(Debug, Default)]
pub(crate) struct Book {
    seq: u64,
    intents: BTreeMap<String, Intent>,
    refunds: BTreeMap<String, Refund>,
    answers: HashMap<String, Answer>,
    movements: Vec<Entry>,
    /// Keys whose request has not ended. Not in the journal: a restart ends every request.
    in_flight: HashSet<String>,
}

/// A movement with its place in the journal.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Entry {
    pub(crate) seq: u64,
    pub(crate) at: String,
    #[serde(flatten)]
    pub(crate) movement: Movement,
}

impl Book {
    /// The book after all of a journal's lines.
    pub(crate) fn of(lines: Vec<Line>) -> Self {
        let mut book = Self::default();
        lines.into_iter().for_each(|line| book.apply(line));
        book
    }

    /// The last line that is part of this state.
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }

    /// Enters a change and returns the line that must be written before anyone hears of it.
    pub(crate) fn enter(&mut self, change: Change, call: &Call) -> Line {
        let answer = change.reply.zip(call.key.clone()).map(|(reply, key)| Answer {
            key,
            fingerprint: call.fingerprint.clone(),
            status: reply.status.as_u16(),
            body: reply.body,
        });
        let line = Line {
            seq: self.seq + 1,
            at: now().format(&Rfc3339).unwrap_or_default(),
            movement: change.movement,
            intent: change.intent,
            refund: change.refund,
            answer,
        };
        self.apply(line.clone());
        line
    }

    fn apply(&mut self, line: Line) {
        self.seq = line.seq;
        if let Some(intent) = line.intent {
            self.intents.insert(intent.id.clone(), intent);
        }
        if let Some(refund) = line.refund {
            self.refunds.insert(refund.id.clone(), refund);
        }
        if let Some(answer) = line.answer {
            self.answers.insert(answer.key.clone(), answer);
        }
        if let Some(movement) = line.movement {
            self.movements.push(Entry { seq: line.seq, at: line.at, movement });
        }
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

    /// Newest first.
    pub(crate) fn refunds(&self) -> impl Iterator<Item = &Refund> {
        self.refunds.values().rev()
    }

    pub(crate) fn movements(&self) -> &[Entry] {
        &self.movements
    }

    pub(crate) fn answer(&self, key: &str) -> Option<&Answer> {
        self.answers.get(key)
    }

    /// Marks a key as in flight; false when it is already.
    pub(crate) fn claim(&mut self, key: &str) -> bool {
        self.in_flight.insert(key.to_owned())
    }

    pub(crate) fn release(&mut self, key: &str) {
        self.in_flight.remove(key);
    }
}
