//! Replicas: handlers that follow another home's state.

use std::{future::Future, sync::Arc};

use opentelemetry::trace::FutureExt as _;
use sqlx::{PgPool, postgres::PgTransaction};
use tokio_util::sync::CancellationToken;

use crate::{
    BoxError, Error, Inbox, Incoming, Meta, Metrics, Received, Refill, Source, Tally, Topic, Tracer,
    envelope::Envelope,
    handler::{Effect, Erased, Undecodable, UnknownKind},
    inbox::{Attempt, Dealt, Gate, InboxOptions, Kind},
    store::{self, Admitted, Leap},
    trace,
};

/// Follows the state of keys that another home may own. Its stream's first event is applied by every home, whoever
/// published it; after that, events of its own module only move the cursor.
pub trait StateTransfer: Send + Sync + 'static {
    /// Names its cursors, such as `prices.replica`.
    const NAME: &'static str;
    /// The stream it follows.
    type Event: Incoming;

    /// Whether events of this kind carry a key's whole state, so that one may start or repair a key by itself.
    fn is_snapshot(kind: &str) -> bool;

    /// Applies an event to the replica's tables in `tx`. One of a kind that [`StateTransfer::Event`] does not know stops its key,
    /// uses up no attempt and is tried again until a program runs that knows it. A snapshot replaces the state. The key's cursor has moved in the
    /// same transaction, its head follows after this: don't publish to the stream from here.
    ///
    /// # Errors
    /// As for [`crate::Handler::handle`]: the key stops there, others go on.
    fn apply(
        &self,
        tx: &mut PgTransaction<'_>,
        event: Received<Self::Event>,
    ) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Applies snapshots in `tx`, of each key one at most, in the order of keys: what [`StateTransfer::apply`] would do with each. A
    /// lone one goes there. Without this method each of them does, in a trace of its own. With it, one statement may do the work
    /// of all.
    ///
    /// # Errors
    /// All is rolled back, and smaller parts are tried, down to [`StateTransfer::apply`] for one: only what that refuses stops its key.
    fn apply_snapshots(
        &self,
        tx: &mut PgTransaction<'_>,
        snapshots: Vec<Received<Self::Event>>,
    ) -> impl Future<Output = Result<(), BoxError>> + Send {
        async move {
            for snapshot in snapshots {
                let publisher = trace::context(&snapshot.meta.headers);
                self.apply(tx, snapshot).with_context(publisher).await?;
            }
            Ok(())
        }
    }
}

/// Runs a [`StateTransfer`] in a consumer group of its own.
pub struct Replica<S>(Inbox<S>);

impl<S: Source> Replica<S> {
    /// A replica at the home that publishes this stream as `module`, such as `prices-service`.
    pub fn new<T: StateTransfer>(pool: PgPool, source: S, module: &str, transfer: T) -> Self {
        let kind = Kind::Replica { module: module.to_owned() };
        Self(Inbox::new(pool, source).gate(kind, Arc::new(Following(transfer))))
    }

    /// Replaces the bounds.
    #[must_use]
    pub fn with(self, options: InboxOptions) -> Self {
        Self(self.0.with(options))
    }

    /// As [`Inbox::refill`].
    #[must_use]
    pub fn refill(self, log: Arc<dyn Refill>) -> Self {
        Self(self.0.refill(log))
    }

    /// Counts into these instruments.
    #[must_use]
    pub fn metrics(self, metrics: Metrics) -> Self {
        Self(self.0.metrics(metrics))
    }

    /// As [`Inbox::tracer`].
    #[must_use]
    pub fn tracer(self, tracer: Tracer) -> Self {
        Self(self.0.tracer(tracer))
    }

    /// What this replica decides, counted from now on.
    pub fn tally(&self) -> Tally {
        self.0.tally()
    }

    /// As [`Inbox::run`].
    ///
    /// # Errors
    /// As [`Inbox::run`]; among them [`Error::WentBack`], when the log holds events of this home that its database lacks.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        self.0.run(shutdown).await
    }
}

/// Whether the home that publishes as `module` wrote this event, so that its effect is here already. The first one of a key is
/// applied by every home.
pub(crate) fn is_own(event: &Envelope, module: &str) -> bool {
    event.origin == module && event.version > 1
}

/// The gate of a replica.
pub(crate) async fn admit(
    gate: &Gate,
    tx: &mut PgTransaction<'_>,
    event: &Envelope,
    module: &str,
) -> Result<Attempt, Error> {
    if is_own(event, module) {
        return own(gate, tx, event).await;
    }
    if event.is_skipped() {
        return skipped(gate, tx, event).await;
    }
    let leap = if gate.handler.is_snapshot(&event.kind) {
        gate.database.hear(store::leap(tx, gate.name(), event)).await?
    } else {
        Leap::Passed
    };
    let attempt = match leap {
        Leap::Passed => gate.admit(tx, event).await?,
        // As for any other event: what an operator put in its place has its turn.
        Leap::Replaced => Attempt::Early,
        Leap::Waits => gate.apply(tx, event, true).await?,
        Leap::Free => gate.apply(tx, event, false).await?,
    };
    match attempt {
        Attempt::Dealt(Dealt::Applied, _) => {
            if !gate.database.hear(store::follow_applied(tx, gate.name(), event)).await? {
                return Ok(Attempt::Refused("this home wrote that version itself: two owners".into()));
            }
            Ok(attempt)
        }
        Attempt::Dealt(Dealt::Duplicate, waiting) => {
            Ok(match gate.database.hear(store::applied_as(tx, gate.name(), event)).await? {
                Some(other) => Attempt::Conflict(Some(other), waiting),
                None => attempt,
            })
        }
        other => Ok(other),
    }
}

/// The home gave this event up, so its effect can't be known here: the key awaits a snapshot.
async fn skipped(gate: &Gate, tx: &mut PgTransaction<'_>, event: &Envelope) -> Result<Attempt, Error> {
    let at = gate.database.hear(store::admit(tx, gate.name(), event)).await?;
    Ok(match at.verdict.as_str() {
        "apply" => {
            gate.database.hear(store::skipped(tx, gate.name(), event)).await?;
            let follow = store::follow(tx, &event.topic, &event.key, event.version, event.id);
            gate.database.hear(follow).await?;
            Attempt::Dealt(Dealt::Awaiting, at.waiting > 0)
        }
        _ => unmoved(&at),
    })
}

/// An event of this home: its effect is here already, only the cursor moves.
async fn own(gate: &Gate, tx: &mut PgTransaction<'_>, event: &Envelope) -> Result<Attempt, Error> {
    let head = gate.database.hear(store::head_version(tx, &event.topic, &event.key)).await?;
    if event.version > head {
        let (topic, key) = (event.topic.clone(), event.key.clone());
        return Err(Error::WentBack { topic, key, head, version: event.version });
    }
    let at = gate.database.hear(store::admit(tx, gate.name(), event)).await?;
    Ok(match at.verdict.as_str() {
        "apply" => Attempt::Dealt(Dealt::Own, at.waiting > 0),
        _ => unmoved(&at),
    })
}

/// What the gate says of an event that did not move the cursor.
fn unmoved(at: &Admitted) -> Attempt {
    match at.verdict.as_str() {
        "duplicate" => Attempt::Dealt(Dealt::Duplicate, at.waiting > 0),
        "conflict" => Attempt::Conflict(at.applied_id, at.waiting > 0),
        _ => Attempt::Early,
    }
}

struct Following<T>(T);

impl<T: StateTransfer> Erased for Following<T> {
    fn name(&self) -> &'static str {
        T::NAME
    }

    fn topic(&self) -> Topic {
        T::Event::TOPIC
    }

    fn is_snapshot(&self, kind: &str) -> bool {
        T::is_snapshot(kind)
    }

    fn apply<'a>(
        &'a self,
        tx: &'a mut PgTransaction<'_>,
        meta: Meta,
        payload: &'a [u8],
    ) -> crate::handler::Applied<'a> {
        Box::pin(async move {
            self.0.apply(tx, received::<T>(meta, payload)?).await?;
            Ok(Effect::Applied)
        })
    }

    fn apply_batch<'a>(
        &'a self,
        tx: &'a mut PgTransaction<'_>,
        events: Vec<(Meta, &'a [u8])>,
    ) -> crate::handler::AppliedAll<'a> {
        Box::pin(async move {
            let received = events.into_iter().map(|(meta, payload)| received::<T>(meta, payload));
            let received = received.collect::<Result<Vec<_>, _>>()?;
            let effects = vec![Effect::Applied; received.len()];
            self.0.apply_snapshots(tx, received).await?;
            Ok(effects)
        })
    }
}

/// An event as the replica takes it.
fn received<T: StateTransfer>(meta: Meta, payload: &[u8]) -> Result<Received<T::Event>, BoxError> {
    match T::Event::decode(&meta.kind, payload) {
        // Passing over it would leave the replica's state behind under a newer version. While a program is upgraded
        // another instance may know it.
        None => Err(UnknownKind { kind: meta.kind, replica: T::NAME }.into()),
        Some(event) => Ok(Received { event: event.map_err(Undecodable)?, meta }),
    }
}
