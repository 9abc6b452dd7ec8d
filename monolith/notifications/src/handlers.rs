//! What notifications do when money moves.

use outbox::{BoxError, Received};
use proto::events::{PaymentCaptured, PaymentRefunded};
use sqlx::postgres::PgTransaction;

use crate::receipt::{Receipt, Subject};
use crate::store;

/// Queues a receipt for each captured payment.
#[derive(Debug, Clone, Copy)]
pub struct QueueReceipt;

/// Queues a receipt for each refund.
#[derive(Debug, Clone, Copy)]
pub struct QueueRefundReceipt;

impl outbox::Handler for QueueReceipt {
    const NAME: &'static str = "notifications.queue_receipt";
    type Event = PaymentCaptured;

    // The cursor and this row commit together: a redelivery meets the cursor and is skipped.
    async fn handle(
        &self,
        tx: &mut PgTransaction<'_>,
        received: Received<PaymentCaptured>,
    ) -> Result<(), BoxError> {
        let state = received.event.state.ok_or("the event carries no state")?;
        let receipt = Receipt::new(&received.meta, &state, Subject::Payment, state.captured_minor)?;
        Ok(store::queue(tx, &receipt).await?)
    }
}

impl outbox::Handler for QueueRefundReceipt {
    const NAME: &'static str = "notifications.queue_refund_receipt";
    type Event = PaymentRefunded;

    /// The state has the sum of all refunds; the command has this one.
    async fn handle(
        &self,
        tx: &mut PgTransaction<'_>,
        received: Received<PaymentRefunded>,
    ) -> Result<(), BoxError> {
        let state = received.event.state.ok_or("the event carries no state")?;
        let command = received.event.command.ok_or("the event carries no command")?;
        let receipt = Receipt::new(&received.meta, &state, Subject::Refund, command.amount_minor)?;
        Ok(store::queue(tx, &receipt).await?)
    }
}
