//! Following the other home.

mod take;

use std::{fmt, sync::Arc};

use outbox::{BoxError, Event as _, Received};
use proto::{PaymentFeed, PaymentId, PaymentStream, events as wire};
use sqlx::postgres::PgTransaction;

use self::take::Record;
use crate::events::{read_adjustment, read_key, read_keyed, read_ledger, read_requested, read_state};
use crate::shadow::{Came, Shadow};
use crate::store::Kept;
use crate::{Births, Change, Error, Home, Metrics, Payment, Point, store};

/// Applies the payments stream: every payment's first event, whoever owns it, and what the other home did to its own. A foreign
/// event for a payment that this home owns is refused: two owners wrote, and its key stops. By a record that gives a payment up, the
/// copy here is compared with the owner's.
pub struct Replicate {
    home: Home,
    births: Arc<dyn Births>,
    metrics: Metrics,
    shadow: Option<Shadow>,
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
    async fn refuse_own(&self, tx: &mut PgTransaction<'_>, payments: &[PaymentId]) -> Result<(), BoxError> {
        match self.home.authority.owns_one_of(tx, payments).await? {
            None => Ok(()),
            Some(payment) => {
                tracing::error!(%payment, "a foreign event would change a payment that this home owns");
                Err(Error::ForeignWrite.into())
            }
        }
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

    async fn apply_snapshots(
        &self,
        tx: &mut PgTransaction<'_>,
        snapshots: Vec<Received<PaymentFeed>>,
    ) -> Result<(), BoxError> {
        let mut records = Vec::new();
        for Received { event, meta } in snapshots {
            match event {
                PaymentFeed::Payment(event) => records.push(Record::of(*event, &meta)?),
                heartbeat @ PaymentFeed::Heartbeat(_) => {
                    self.apply(tx, Received { event: heartbeat, meta }).await?;
                }
            }
        }
        if !records.is_empty() {
            self.take(tx, records).await?;
            self.home.crash.point(Point::ReplicaApplied);
        }
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
        let change = change(&event);
        let foreign = match event {
            PaymentStream::Requested(event) => return self.requested(tx, event, meta.version).await,
            whole @ (PaymentStream::Snapshot(_) | PaymentStream::Offered(_) | PaymentStream::Released(_)) => {
                return self.take(tx, vec![Record::of(whole, &meta)?]).await;
            }
            PaymentStream::Adjusted(wire::PaymentAdjusted { state, adjustment, ledger }) => {
                self.refuse_own(tx, &[read_key(&meta.key)?]).await?;
                let payment = read_state(state.ok_or("the event has no state")?, meta.version)?;
                follow(tx, &payment, ledger).await?;
                let adjustment = read_adjustment(adjustment.ok_or("the event has no adjustment")?)?;
                // Events of earlier versions don't say which payment intent it was; a snapshot does later.
                if adjustment.payment_intent.is_some() {
                    store::insert_adjustments(tx, &[(payment.id, &adjustment)]).await?;
                }
                return Ok(());
            }
            PaymentStream::Authorized(wire::PaymentAuthorized { state, command, outcome, ledger })
            | PaymentStream::Captured(wire::PaymentCaptured { state, command, outcome, ledger })
            | PaymentStream::Declined(wire::PaymentDeclined { state, command, outcome, ledger })
            | PaymentStream::Voided(wire::PaymentVoided { state, command, outcome, ledger })
            | PaymentStream::Refunded(wire::PaymentRefunded { state, command, outcome, ledger }) => {
                Foreign { state, command, outcome, ledger }
            }
        };
        self.refuse_own(tx, &[read_key(&meta.key)?]).await?;
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
            store::keep_answers(tx, &[(&payment, &kept)]).await?;
        }
        Ok(())
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

async fn follow(
    tx: &mut PgTransaction<'_>,
    payment: &Payment,
    ledger: Vec<wire::LedgerTransaction>,
) -> Result<(), BoxError> {
    store::replace(tx, &[payment]).await?;
    let ledger = read_ledger(ledger)?;
    let booked: Vec<_> = ledger.iter().map(|transaction| (payment, transaction)).collect();
    Ok(store::insert_transactions(tx, &booked).await?)
}

impl fmt::Debug for Replicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replicate").finish_non_exhaustive()
    }
}
