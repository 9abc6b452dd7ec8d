//! Handlers of events, and how the inbox holds many of them.

use std::{future::Future, pin::Pin};

use sqlx::postgres::PgTransaction;

use crate::{BoxError, Incoming, Meta, Received, Topic};

/// Applies events of one topic, each once and per key in order.
pub trait Handler: Send + Sync + 'static {
    /// Names its cursors; `module.verb`, such as `notifications.queue_receipt`. A new name starts from the beginning.
    const NAME: &'static str;
    /// What it takes.
    type Event: Incoming;

    /// Does the event's work in `tx`, which the inbox commits together with the key's cursor. Must not commit, nor talk to
    /// anything that is not undone by a rollback.
    ///
    /// # Errors
    /// An error is the handler's verdict on this event: its key stops there and is retried; other keys go on. Pass
    /// database errors on unchanged (boxed `sqlx::Error` anywhere in the chain): a lost connection or a deadlock is
    /// told apart from a verdict by them.
    fn handle(
        &self,
        tx: &mut PgTransaction<'_>,
        event: Received<Self::Event>,
    ) -> impl Future<Output = Result<(), BoxError>> + Send;
}

pub(crate) type Applied<'a> = Pin<Box<dyn Future<Output = Result<Effect, BoxError>> + Send + 'a>>;

/// What applying an event came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The handler ran.
    Applied,
    /// Not a kind of this handler.
    Ignored,
}

/// A [`Handler`] or [`crate::StateTransfer`] without its types.
pub(crate) trait Erased: Send + Sync {
    fn name(&self) -> &'static str;
    fn topic(&self) -> Topic;
    /// For a replica: whether this kind carries the whole state. Always false for a plain handler.
    fn is_snapshot(&self, kind: &str) -> bool;
    fn apply<'a>(&'a self, tx: &'a mut PgTransaction<'_>, meta: Meta, payload: &'a [u8]) -> Applied<'a>;
}

pub(crate) struct Plain<H>(pub(crate) H);

impl<H: Handler> Erased for Plain<H> {
    fn name(&self) -> &'static str {
        H::NAME
    }

    fn topic(&self) -> Topic {
        H::Event::TOPIC
    }

    fn is_snapshot(&self, _: &str) -> bool {
        false
    }

    fn apply<'a>(&'a self, tx: &'a mut PgTransaction<'_>, meta: Meta, payload: &'a [u8]) -> Applied<'a> {
        Box::pin(async move {
            match H::Event::decode(&meta.kind, payload) {
                None => Ok(Effect::Ignored),
                Some(event) => {
                    self.0.handle(tx, Received { event: event?, meta }).await?;
                    Ok(Effect::Applied)
                }
            }
        })
    }
}
