//! What orders do when their payments move.

use outbox::{BoxError, Received};
use proto::events::{OrderCancelled, OrderPaid, PaymentState, PaymentStatus};
use proto::{PaymentId, PaymentStream};
use sqlx::postgres::PgTransaction;
use uuid::Uuid;

use crate::{Error, Status, store};

/// Follows each payment: its order becomes paid when it is captured, cancelled when it is declined or voided.
#[derive(Debug, Clone, Copy)]
pub struct FollowPayment;

/// What a payment's state means for its order.
#[derive(Debug, PartialEq)]
enum Verdict {
    Open,
    Paid { minor: i64, currency: String },
    Cancelled(&'static str),
}

impl outbox::Handler for FollowPayment {
    const NAME: &'static str = "orders.follow_payment";
    type Event = PaymentStream;

    /// Judges by the state after the event, not by its kind: whatever legal way led there, and however often it is told,
    /// the order ends the same.
    async fn handle(
        &self,
        tx: &mut PgTransaction<'_>,
        received: Received<PaymentStream>,
    ) -> Result<(), BoxError> {
        let payment: PaymentId = received.meta.key.parse()?;
        match verdict(&received.event)? {
            Verdict::Open => Ok(()),
            Verdict::Paid { minor, currency } => pay(tx, payment, minor, currency).await,
            Verdict::Cancelled(reason) => cancel(tx, payment, reason).await,
        }
    }
}

async fn pay(
    tx: &mut PgTransaction<'_>,
    payment: PaymentId,
    minor: i64,
    currency: String,
) -> Result<(), BoxError> {
    let Some((order, tenant)) = store::mark_paid(tx, payment).await? else {
        return expect(tx, payment, Status::Paid).await;
    };
    let paid = proto::events::Money { minor, currency };
    let (order_id, payment_id) = (order.to_string(), payment.to_string());
    outbox::publish(tx, &OrderPaid { order_id, tenant, payment_id, paid: Some(paid) }).await?;
    Ok(())
}

async fn cancel(tx: &mut PgTransaction<'_>, payment: PaymentId, reason: &str) -> Result<(), BoxError> {
    let Some((order, tenant)): Option<(Uuid, String)> = store::cancel(tx, payment, reason).await? else {
        return expect(tx, payment, Status::Cancelled).await;
    };
    let (order_id, payment_id, reason) = (order.to_string(), payment.to_string(), reason.to_owned());
    outbox::publish(tx, &OrderCancelled { order_id, tenant, payment_id, reason }).await?;
    Ok(())
}

/// Nothing was open: either the order is there already, or this event contradicts what was told before. Then the key stops
/// here, for someone must look.
async fn expect(tx: &mut PgTransaction<'_>, payment: PaymentId, wanted: Status) -> Result<(), BoxError> {
    match store::status_of(tx, payment).await? {
        Some(status) if status == wanted => Ok(()),
        Some(status) => {
            let (is, must) = (status.word(), wanted.word());
            Err(format!("the order of payment {payment} is {is}, but the payment says it must be {must}")
                .into())
        }
        None => Err(Error::NotFound.into()),
    }
}

fn verdict(event: &PaymentStream) -> Result<Verdict, BoxError> {
    let state = match event {
        // Nothing is known yet, or it changed no state.
        PaymentStream::Requested(_) | PaymentStream::Adjusted(_) => return Ok(Verdict::Open),
        // Who may write the payment changes, and the payment does not.
        PaymentStream::Offered(_) | PaymentStream::Released(_) => return Ok(Verdict::Open),
        PaymentStream::Authorized(event) => &event.state,
        PaymentStream::Captured(event) => &event.state,
        PaymentStream::Declined(event) => &event.state,
        PaymentStream::Voided(event) => &event.state,
        PaymentStream::Refunded(event) => &event.state,
        PaymentStream::Snapshot(event) => &event.state,
    };
    verdict_of(state.as_ref().ok_or("the event carries no state")?)
}

fn verdict_of(state: &PaymentState) -> Result<Verdict, BoxError> {
    match state.status() {
        PaymentStatus::Requested | PaymentStatus::Authorized => Ok(Verdict::Open),
        // Money that was returned had been paid.
        PaymentStatus::Captured | PaymentStatus::Refunded => {
            let currency = state.amount.as_ref().ok_or("the state has no amount")?.currency.clone();
            Ok(Verdict::Paid { minor: state.captured_minor, currency })
        }
        PaymentStatus::Declined => Ok(Verdict::Cancelled("payment_declined")),
        PaymentStatus::Voided => Ok(Verdict::Cancelled("payment_voided")),
        PaymentStatus::Unspecified => Err(format!("{} is no payment status", state.status).into()),
    }
}
