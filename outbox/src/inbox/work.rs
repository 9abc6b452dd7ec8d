//! One connection's work: a batch of records through one gate.

use std::{collections::HashSet, sync::Arc};

use super::{
    Dealt, Gate,
    batch::{Hindrance, Outcome},
    lane::Item,
    marks::Ticket,
    patience::Patience,
};
use crate::{
    Error, Message,
    database::Database,
    store::{self, Unreadable},
};

/// What became of a batch.
pub(super) struct Done {
    /// Whose; none for a record that no gate can take.
    pub(super) lane: Option<usize>,
    pub(super) keys: Vec<String>,
    pub(super) records: usize,
    pub(super) bytes: usize,
    /// The records that were dealt with. Not those that a stop came before: they are read again.
    pub(super) dealt: Vec<(Ticket, Option<Dealt>)>,
}

/// Deals with a batch: in one transaction if that works, else in halves, down to the record that is in the way. What takes too
/// long comes last.
pub(super) async fn work(
    lane: usize,
    gate: Arc<Gate>,
    items: Vec<Item>,
    patience: Patience,
) -> Result<Done, Error> {
    let mut keys: Vec<String> = items.iter().map(|item| item.event.key.clone()).collect();
    keys.dedup();
    let bytes = items.iter().map(|item| item.event.payload.len()).sum();
    let done = Done { lane: Some(lane), keys, records: items.len(), bytes, dealt: Vec::new() };
    let mut working = Working { gate, patience, done, slow: HashSet::new(), last: Vec::new() };
    working.in_parts(items).await?;
    for item in std::mem::take(&mut working.last) {
        working.deal(item).await?;
    }
    Ok(working.done)
}

/// A batch in work.
struct Working {
    gate: Arc<Gate>,
    patience: Patience,
    done: Done,
    /// Keys of events that took too long, and those events with all that came after them.
    slow: HashSet<String>,
    last: Vec<Item>,
}

impl Working {
    async fn in_parts(&mut self, items: Vec<Item>) -> Result<(), Error> {
        let mut todo = vec![items];
        while let Some(part) = todo.pop().filter(|_| !self.patience.is_over()) {
            let (slow, part): (Vec<_>, Vec<_>) =
                part.into_iter().partition(|item| self.slow.contains(&item.event.key));
            self.last.extend(slow);
            let mut part = self.one_by_one(part).await?;
            if part.is_empty() {
                continue;
            }
            let events: Vec<_> = part.iter().map(|item| item.event.clone()).collect();
            match self.patience.until(|| self.gate.deal_batch(&events)).await? {
                // A stop came first.
                None => return Ok(()),
                Some(Ok(outcomes)) => self.settle(part, outcomes).await?,
                Some(Err(Hindrance::Fault)) => {
                    let second = part.split_off(part.len() / 2);
                    todo.push(second);
                    todo.push(part);
                }
                Some(Err(Hindrance::Time)) => self.quickly(part).await?,
            }
        }
        Ok(())
    }

    /// Deals with what no batch is for, and returns the rest: nothing, or two at least. All events of a key stay together.
    async fn one_by_one(&mut self, part: Vec<Item>) -> Result<Vec<Item>, Error> {
        let alone = |item: &&Item| !self.gate.takes_in_batches(&item.event);
        let alone: HashSet<String> = part.iter().filter(alone).map(|item| item.event.key.clone()).collect();
        let (mut alone, mut together): (Vec<_>, Vec<_>) =
            part.into_iter().partition(|item| alone.contains(&item.event.key));
        if together.len() < 2 {
            alone.append(&mut together);
        }
        for item in alone {
            self.deal(item).await?;
        }
        Ok(together)
    }

    /// Each by itself, for a short time: one that takes too long holds up its key only, which is put last.
    async fn quickly(&mut self, part: Vec<Item>) -> Result<(), Error> {
        for item in part {
            if self.patience.is_over() {
                return Ok(());
            }
            if self.slow.contains(&item.event.key) {
                self.last.push(item);
                continue;
            }
            match self.patience.until(|| self.gate.deal_quickly(&item.event)).await? {
                None => return Ok(()),
                Some(Ok(outcomes)) => self.settle(vec![item], outcomes).await?,
                Some(Err(Hindrance::Fault)) => self.deal(item).await?,
                Some(Err(Hindrance::Time)) => {
                    self.slow.insert(item.event.key.clone());
                    self.last.push(item);
                }
            }
        }
        Ok(())
    }

    async fn settle(&mut self, part: Vec<Item>, outcomes: Vec<Outcome>) -> Result<(), Error> {
        for (item, outcome) in part.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Dealt(dealt) => self.done.dealt.push((item.ticket, Some(dealt))),
                Outcome::OneByOne => self.deal(item).await?,
            }
        }
        Ok(())
    }

    /// Deals with one event. Not after a stop: it is read again.
    async fn deal(&mut self, item: Item) -> Result<(), Error> {
        if self.patience.is_over() {
            return Ok(());
        }
        if let Some(dealt) = self.patience.until(|| self.gate.deal(&item.event)).await? {
            self.done.dealt.push((item.ticket, Some(dealt)));
        }
        Ok(())
    }
}

/// Keeps a record that no gate can take.
pub(super) async fn keep(
    database: Database,
    group: String,
    message: Message,
    error: String,
    ticket: Ticket,
    patience: Patience,
) -> Result<Done, Error> {
    tracing::error!(
        topic = message.topic,
        partition = message.partition,
        offset = message.offset,
        error,
        "a record can't be read; it is kept in outbox.unreadable"
    );
    let (database, group, error) = (&database, &group, &error);
    let kept = async || {
        let asked = database.with(async |db| {
            let kept = Unreadable { error, message: &message };
            store::keep_unreadable(db, group, kept).await
        });
        asked.await
    };
    let kept = patience.until(kept).await?;
    let dealt = kept.map(|()| (ticket, None)).into_iter().collect();
    Ok(Done { lane: None, keys: Vec::new(), records: 1, bytes: message.payload.len(), dealt })
}
