//! One connection's work: a batch of records through one gate.

use std::sync::Arc;

use sqlx::PgPool;

use super::{Dealt, Gate, batch::Outcome, lane::Item, marks::Ticket, patience::Patience};
use crate::{
    Error, Message,
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

/// Deals with a batch: in one transaction if that works, else in halves, down to the record that is in the way.
pub(super) async fn work(
    lane: usize,
    gate: Arc<Gate>,
    items: Vec<Item>,
    patience: Patience,
) -> Result<Done, Error> {
    let mut keys: Vec<String> = items.iter().map(|item| item.event.key.clone()).collect();
    keys.dedup();
    let bytes = items.iter().map(|item| item.event.payload.len()).sum();
    let mut done = Done { lane: Some(lane), keys, records: items.len(), bytes, dealt: Vec::new() };
    let mut todo = vec![items];
    while let Some(mut part) = todo.pop() {
        if patience.is_over() {
            break;
        }
        let outcomes = if part.len() > 1 && gate.takes_batches() {
            let events: Vec<_> = part.iter().map(|item| item.event.clone()).collect();
            gate.deal_batch(&events).await?
        } else {
            Some(vec![Outcome::OneByOne; part.len()])
        };
        let Some(outcomes) = outcomes else {
            let second = part.split_off(part.len() / 2);
            todo.push(second);
            todo.push(part);
            continue;
        };
        for (item, outcome) in part.into_iter().zip(outcomes) {
            let dealt = match outcome {
                Outcome::Dealt(dealt) => Some(dealt),
                Outcome::OneByOne if patience.is_over() => None,
                Outcome::OneByOne => patience.until(|| gate.deal(&item.event)).await?,
            };
            // None: a stop came first.
            if let Some(dealt) = dealt {
                done.dealt.push((item.ticket, Some(dealt)));
            }
        }
    }
    Ok(done)
}

/// Keeps a record that no gate can take.
pub(super) async fn keep(
    pool: PgPool,
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
    let (pool, group, error) = (&pool, &group, &error);
    let kept = async || {
        let kept = Unreadable { error, message: &message };
        Ok(store::keep_unreadable(pool, group, kept).await?)
    };
    let kept = patience.until(kept).await?;
    let dealt = kept.map(|()| (ticket, None)).into_iter().collect();
    Ok(Done { lane: None, keys: Vec::new(), records: 1, bytes: message.payload.len(), dealt })
}
