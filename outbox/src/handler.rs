//! Handlers of events, and how the inbox holds many of them.

use std::{future::Future, pin::Pin};

use opentelemetry::trace::FutureExt as _;
use sqlx::postgres::PgTransaction;

use crate::{BoxError, Incoming, Meta, Received, Topic, envelope::SKIPPED, trace};

/// Applies events of one topic, each once and per key in order.
pub trait Handler: Send + Sync + 'static {
    /// Names its cursors; `module.verb`, such as `notifications.queue_receipt`. A new name starts from the beginning.
    const NAME: &'static str;
    /// What it takes.
    type Event: Incoming;

    /// Does the event's work in `tx`, which the inbox commits together with the key's cursor. Must not talk to anything that
    /// is not undone by a rollback, nor end `tx`: by a commit or rollback of its own, or by dropping a savepoint's `begin()`
    /// that it has not awaited (sqlx rolls all back then). One that does is refused, but what it did after that stays.
    ///
    /// # Errors
    /// An error is the handler's verdict on this event: its key stops there and is retried; other keys go on. Pass
    /// database errors on unchanged (boxed `sqlx::Error` anywhere in the chain): a lost connection or a deadlock is
    /// told apart from a verdict by them. A statement that took longer than `statement_timeout` is a verdict.
    fn handle(
        &self,
        tx: &mut PgTransaction<'_>,
        event: Received<Self::Event>,
    ) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Does the work of many events in `tx`, in the order given: by key, each key's versions ascending. The inbox calls it
    /// with what is there, up to `batch_max`; a lone event goes to [`Handler::handle`]. Without this method each event of a
    /// batch is handled by itself, in its own trace. With it, one statement may do the work of all.
    ///
    /// # Errors
    /// All is rolled back, and smaller parts are tried, down to single events (one by one after `effect_timeout`): only the one
    /// that is refused stops its key.
    fn handle_batch(
        &self,
        tx: &mut PgTransaction<'_>,
        events: Vec<Received<Self::Event>>,
    ) -> impl Future<Output = Result<(), BoxError>> + Send {
        async move {
            for event in events {
                let publisher = trace::context(&event.meta.headers);
                self.handle(tx, event).with_context(publisher).await?;
            }
            Ok(())
        }
    }
}

/// A payload is not what the handler takes.
#[derive(Debug, thiserror::Error)]
#[error("the payload can't be decoded")]
pub(crate) struct Undecodable(#[source] pub(crate) BoxError);

/// A replica met a kind that its program does not know.
#[derive(Debug, thiserror::Error)]
#[error("kind {kind} is unknown to {replica}: it waits for a version of this program that knows it")]
pub(crate) struct UnknownKind {
    pub(crate) kind: String,
    pub(crate) replica: &'static str,
}

pub(crate) type AppliedAll<'a> = Pin<Box<dyn Future<Output = Result<Vec<Effect>, BoxError>> + Send + 'a>>;

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
    /// Applies events in their order; the effects in the same order.
    fn apply_batch<'a>(
        &'a self,
        tx: &'a mut PgTransaction<'_>,
        events: Vec<(Meta, &'a [u8])>,
    ) -> AppliedAll<'a>;
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
                    let event = event.map_err(Undecodable)?;
                    self.0.handle(tx, Received { event, meta }).await?;
                    Ok(Effect::Applied)
                }
            }
        })
    }

    fn apply_batch<'a>(
        &'a self,
        tx: &'a mut PgTransaction<'_>,
        events: Vec<(Meta, &'a [u8])>,
    ) -> AppliedAll<'a> {
        Box::pin(async move {
            let mut effects = Vec::with_capacity(events.len());
            let mut mine = Vec::with_capacity(events.len());
            for (meta, payload) in events {
                let decoded = if meta.kind == SKIPPED { None } else { H::Event::decode(&meta.kind, payload) };
                effects.push(if decoded.is_some() { Effect::Applied } else { Effect::Ignored });
                if let Some(event) = decoded {
                    mine.push(Received { event: event.map_err(Undecodable)?, meta });
                }
            }
            if !mine.is_empty() {
                self.0.handle_batch(tx, mine).await?;
            }
            Ok(effects)
        })
    }
}
