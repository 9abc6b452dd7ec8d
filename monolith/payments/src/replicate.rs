//! Following the other home.

use std::{fmt, sync::Arc};

use outbox::{BoxError, Event as _, Received};
use proto::{PaymentStream, events as wire};
use sqlx::postgres::PgTransaction;

use crate::events::{
    read_adjustment, read_answer, read_key, read_keyed, read_ledger, read_requested, read_state,
};
use crate::store::Kept;
use crate::{Births, Error, Home, Payment, Point, store};

/// Applies the payments stream: every payment's first event, whoever owns it, and what the other home did to its own. A foreign
/// event for a payment that this home owns is refused: two owners wrote, and its key stops.
pub struct Replicate {
    home: Home,
    births: Arc<dyn Births>,
}

/// What a foreign event says happened.
struct Foreign {
    state: Option<wire::PaymentState>,
    command: Option<wire::PaymentCommand>,
    ledger: Vec<wire::LedgerTransaction>,
}

impl Replicate {
    /// A replica of a home.
    pub fn new(home: Home, births: Arc<dyn Births>) -> Self {
        Self { home, births }
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
    type Event = PaymentStream;

    fn is_snapshot(kind: &str) -> bool {
        kind == wire::PaymentSnapshot::KIND
    }

    async fn apply(
        &self,
        tx: &mut PgTransaction<'_>,
        event: Received<PaymentStream>,
    ) -> Result<(), BoxError> {
        self.dispatch(tx, event).await?;
        self.home.crash.point(Point::ReplicaApplied);
        Ok(())
    }
}

impl Replicate {
    async fn dispatch(
        &self,
        tx: &mut PgTransaction<'_>,
        event: Received<PaymentStream>,
    ) -> Result<(), BoxError> {
        let Received { event, meta } = event;
        let foreign = match event {
            PaymentStream::Requested(event) => return self.requested(tx, event, meta.version).await,
            PaymentStream::Snapshot(snapshot) => {
                self.refuse_own(tx, &meta.key).await?;
                return restore(tx, snapshot, meta.version).await;
            }
            PaymentStream::Adjusted(wire::PaymentAdjusted { state, adjustment, ledger }) => {
                self.refuse_own(tx, &meta.key).await?;
                let payment = read_state(state.ok_or("the event has no state")?, meta.version)?;
                follow(tx, &payment, ledger).await?;
                return adjusted(tx, &payment, vec![adjustment.ok_or("the event has no adjustment")?]).await;
            }
            PaymentStream::Authorized(wire::PaymentAuthorized { state, command, ledger, .. })
            | PaymentStream::Captured(wire::PaymentCaptured { state, command, ledger, .. })
            | PaymentStream::Declined(wire::PaymentDeclined { state, command, ledger, .. })
            | PaymentStream::Voided(wire::PaymentVoided { state, command, ledger, .. })
            | PaymentStream::Refunded(wire::PaymentRefunded { state, command, ledger, .. }) => {
                Foreign { state, command, ledger }
            }
        };
        self.refuse_own(tx, &meta.key).await?;
        let payment = read_state(foreign.state.ok_or("the event has no state")?, meta.version)?;
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
    Ok(())
}

impl fmt::Debug for Replicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replicate").finish_non_exhaustive()
    }
}
