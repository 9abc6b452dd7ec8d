//! Following the other home.

use std::{fmt, sync::Arc};

use outbox::{BoxError, Event as _, Received};
use proto::{PaymentFeed, PaymentId, PaymentStream, events as wire};
use sqlx::postgres::PgTransaction;

use crate::events::{
    read_accepted, read_adjustment, read_answer, read_key, read_keyed, read_ledger, read_requested,
    read_state,
};
use crate::shadow::{Came, Shadow};
use crate::store::Kept;
use crate::whole::{hash, wholes};
use crate::{Births, Change, Epoch, Error, Home, Metrics, Payment, Point, events, movable, store};

/// Applies the payments stream: every payment's first event, whoever owns it, and what the other home did to its own. A foreign
/// event for a payment that this home owns is refused: two owners wrote, and its key stops. By a record that gives a payment up, the
/// copy here is compared with the owner's.
pub struct Replicate {
    home: Home,
    births: Arc<dyn Births>,
    metrics: Metrics,
    shadow: Option<Shadow>,
}

/// A payment that the other home gives up.
struct Given {
    payment: PaymentId,
    whole: Option<wire::PaymentSnapshot>,
    hash: Vec<u8>,
    version: i64,
}

/// What a foreign event says happened.
struct Foreign {
    state: Option<wire::PaymentState>,
    command: Option<wire::PaymentCommand>,
    outcome: Option<wire::ProviderOutcome>,
    ledger: Vec<wire::LedgerTransaction>,
}

impl Replicate {
    /// A replica of a home.
    pub fn new(home: Home, births: Arc<dyn Births>) -> Self {
        Self { home, births, metrics: Metrics::noop(), shadow: None }
    }

    /// Decides, too, what the other home decided, and compares. Nothing is refused for it.
    #[must_use]
    pub fn shadow(mut self, shadow: Shadow) -> Self {
        self.shadow = Some(shadow);
        self
    }

    /// Counts copies that were not their owner's.
    #[must_use]
    pub fn metrics(mut self, metrics: Metrics) -> Self {
        self.metrics = metrics;
        self
    }

    async fn requested(
        &self,
        tx: &mut PgTransaction<'_>,
        event: wire::PaymentRequested,
        version: i64,
    ) -> Result<(), BoxError> {
        let (owner, epoch) = (event.owner.clone(), event.epoch);
        let payment = read_requested(event, version)?;
        store::insert_requested(tx, &payment, owner != self.home.name).await?;
        self.births.born(tx, payment.id, &owner, epoch).await?;
        self.home.work.comes();
        Ok(())
    }

    /// The owner row is looked at before the payment's is written, as everywhere.
    async fn refuse_own(&self, tx: &mut PgTransaction<'_>, key: &str) -> Result<(), BoxError> {
        let payment = read_key(key)?;
        if self.home.authority.owns(tx, payment).await? {
            tracing::error!(%payment, "a foreign event would change a payment that this home owns");
            return Err(Error::ForeignWrite.into());
        }
        Ok(())
    }
}

impl outbox::StateTransfer for Replicate {
    const NAME: &'static str = "payments.replica";
    type Event = PaymentFeed;

    fn is_snapshot(kind: &str) -> bool {
        let wholes =
            [wire::PaymentSnapshot::KIND, wire::AuthorityOffered::KIND, wire::AuthorityReleased::KIND];
        // Of heartbeats the last says all.
        wholes.contains(&kind) || kind == wire::FeedHeartbeat::KIND
    }

    async fn apply(&self, tx: &mut PgTransaction<'_>, event: Received<PaymentFeed>) -> Result<(), BoxError> {
        let Received { event, meta } = event;
        match event {
            PaymentFeed::Payment(event) => {
                self.dispatch(tx, Received { event: *event, meta }).await?;
                self.home.crash.point(Point::ReplicaApplied);
                Ok(())
            }
            // The first of this home's own comes here, too, and is no sign of the other one.
            PaymentFeed::Heartbeat(wire::FeedHeartbeat { home }) if home == self.home.name => Ok(()),
            PaymentFeed::Heartbeat(wire::FeedHeartbeat { home }) => {
                Ok(store::note_heartbeat(tx, &home, meta.version, meta.time).await?)
            }
        }
    }
}

impl Replicate {
    async fn dispatch(
        &self,
        tx: &mut PgTransaction<'_>,
        event: Received<PaymentStream>,
    ) -> Result<(), BoxError> {
        let Received { event, meta } = event;
        let change = change(&event);
        let foreign = match event {
            PaymentStream::Requested(event) => return self.requested(tx, event, meta.version).await,
            PaymentStream::Snapshot(snapshot) => {
                self.refuse_own(tx, &meta.key).await?;
                return restore(tx, snapshot, meta.version).await;
            }
            PaymentStream::Offered(wire::AuthorityOffered { epoch, whole, hash }) => {
                let given = Given { payment: read_key(&meta.key)?, whole, hash, version: meta.version };
                self.births.offered(tx, given.payment, Epoch(epoch)).await?;
                // What would be acted on here is not what the owner has: it keeps the payment.
                let is_taken = self.given(tx, given).await?;
                return if is_taken { Ok(()) } else { Err("the copy here can't be made the owner's".into()) };
            }
            PaymentStream::Released(wire::AuthorityReleased { epoch, whole, hash }) => {
                let given = Given { payment: read_key(&meta.key)?, whole, hash, version: meta.version };
                return self.released(tx, given, Epoch(epoch)).await;
            }
            PaymentStream::Adjusted(wire::PaymentAdjusted { state, adjustment, ledger }) => {
                self.refuse_own(tx, &meta.key).await?;
                let payment = read_state(state.ok_or("the event has no state")?, meta.version)?;
                follow(tx, &payment, ledger).await?;
                return adjusted(tx, &payment, vec![adjustment.ok_or("the event has no adjustment")?]).await;
            }
            PaymentStream::Authorized(wire::PaymentAuthorized { state, command, outcome, ledger })
            | PaymentStream::Captured(wire::PaymentCaptured { state, command, outcome, ledger })
            | PaymentStream::Declined(wire::PaymentDeclined { state, command, outcome, ledger })
            | PaymentStream::Voided(wire::PaymentVoided { state, command, outcome, ledger })
            | PaymentStream::Refunded(wire::PaymentRefunded { state, command, outcome, ledger }) => {
                Foreign { state, command, outcome, ledger }
            }
        };
        self.refuse_own(tx, &meta.key).await?;
        let payment = read_state(foreign.state.ok_or("the event has no state")?, meta.version)?;
        if let (Some(shadow), Some(change)) = (&self.shadow, change) {
            let (ledger, payment) = (read_ledger(foreign.ledger.clone())?, payment.clone());
            let (command, outcome) = (foreign.command.clone(), foreign.outcome);
            // The copy as it is before this event.
            let before = store::load(&mut **tx, payment.id).await?;
            shadow.compare(before.as_ref(), Came { change, payment, ledger, command, outcome });
        }
        follow(tx, &payment, foreign.ledger).await?;
        if let Some(command) = read_keyed(foreign.command)? {
            let idempotency = command.idempotency.ok_or("the command has no key")?;
            let (operation, command, answer) = (command.operation, command.id, Ok(payment.clone()));
            let kept = Kept { operation, idempotency, command, answer, at: meta.time };
            store::keep_answer(tx, &payment, kept).await?;
        }
        Ok(())
    }
}

impl Replicate {
    /// The owner row first, as everywhere. A payment that was called back is taken back, however its copy is: nobody else may write
    /// it.
    async fn released(&self, tx: &mut PgTransaction<'_>, given: Given, epoch: Epoch) -> Result<(), BoxError> {
        let payment = given.payment;
        let mine = self.births.released(tx, payment, epoch).await?;
        self.given(tx, given).await?;
        if mine {
            movable::gained(tx, &[payment.to_string()]).await?;
            self.home.work.comes();
        }
        Ok(())
    }

    /// Takes the owner's whole, and tells where the copy here was another one at the version before, or still is. False when it is.
    async fn given(&self, tx: &mut PgTransaction<'_>, given: Given) -> Result<bool, BoxError> {
        let Given { payment, whole, hash: theirs, version } = given;
        let whole = whole.ok_or("the record has no payment")?;
        if whole.state.as_ref().is_none_or(|state| state.payment_id != payment.to_string()) {
            return Err("the record is of another payment than its key".into());
        }
        let taken = hash(&read_again(&whole, version)?);
        let before = copy(tx, payment).await?.filter(|(at, _)| at + 1 == version);
        restore(tx, whole, version).await?;
        let mended = copy(tx, payment).await?.is_some_and(|(_, now)| now == taken);
        if !mended || before.is_some_and(|(_, before)| before != theirs) {
            self.metrics.mismatch();
            tracing::error!(%payment, version, mended, "the copy of a payment was not its owner's; the owner's was taken");
        }
        Ok(mended)
    }
}

/// What an event changed, when a command caused it.
fn change(event: &PaymentStream) -> Option<Change> {
    match event {
        PaymentStream::Authorized(_) => Some(Change::Authorized),
        PaymentStream::Captured(_) => Some(Change::Captured),
        PaymentStream::Declined(_) => Some(Change::Declined),
        PaymentStream::Voided(_) => Some(Change::Voided),
        PaymentStream::Refunded(_) => Some(Change::Refunded),
        PaymentStream::Requested(_)
        | PaymentStream::Snapshot(_)
        | PaymentStream::Offered(_)
        | PaymentStream::Released(_)
        | PaymentStream::Adjusted(_) => None,
    }
}

/// The version of this home's copy of a payment, and its hash.
async fn copy(tx: &mut PgTransaction<'_>, payment: PaymentId) -> Result<Option<(i64, Vec<u8>)>, Error> {
    let Some(payment) = store::load(&mut **tx, payment).await? else { return Ok(None) };
    let whole = wholes(tx, std::slice::from_ref(&payment)).await?.pop();
    Ok(whole.map(|whole| (payment.version, hash(&whole))))
}

/// As this program writes what it reads there: a field that it does not know, or that was left out, makes no other copy of it.
fn read_again(whole: &wire::PaymentSnapshot, version: i64) -> Result<wire::PaymentSnapshot, BoxError> {
    let state = whole.state.clone().ok_or("the snapshot has no state")?;
    let ledger = read_ledger(whole.ledger.clone())?;
    Ok(wire::PaymentSnapshot {
        state: Some(events::state(&read_state(state, version)?)),
        ledger: ledger.iter().map(events::transaction).collect(),
        ..Default::default()
    })
}

async fn follow(
    tx: &mut PgTransaction<'_>,
    payment: &Payment,
    ledger: Vec<wire::LedgerTransaction>,
) -> Result<(), BoxError> {
    store::replace(tx, payment).await?;
    for transaction in read_ledger(ledger)? {
        store::insert_transaction(tx, payment, &transaction).await?;
    }
    Ok(())
}

/// Keeps what the other home's adjustments followed, for notices that tell of it here. Events of earlier versions don't say which
/// payment intent that was; a snapshot does later.
async fn adjusted(
    tx: &mut PgTransaction<'_>,
    payment: &Payment,
    adjustments: Vec<wire::Adjustment>,
) -> Result<(), BoxError> {
    for adjustment in adjustments {
        let adjustment = read_adjustment(adjustment)?;
        if adjustment.payment_intent.is_some() {
            store::insert_adjustment(tx, payment.id, &adjustment).await?;
        }
    }
    Ok(())
}

/// Starts again from the whole state.
async fn restore(
    tx: &mut PgTransaction<'_>,
    snapshot: wire::PaymentSnapshot,
    version: i64,
) -> Result<(), BoxError> {
    let payment = read_state(snapshot.state.ok_or("the snapshot has no state")?, version)?;
    follow(tx, &payment, snapshot.ledger).await?;
    adjusted(tx, &payment, snapshot.adjustments).await?;
    for record in snapshot.idempotency {
        store::keep_answer(tx, &payment, read_answer(record)?).await?;
    }
    for record in snapshot.accepted {
        // One of a kind that this version does not know can't be found here either.
        if let Some(accepted) = read_accepted(record, &payment)? {
            store::keep_accepted(tx, &accepted).await?;
        }
    }
    Ok(())
}

impl fmt::Debug for Replicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replicate").finish_non_exhaustive()
    }
}
