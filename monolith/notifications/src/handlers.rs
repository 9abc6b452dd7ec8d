//! What notifications do when money moves.

use outbox::{BoxError, Event as _, Incoming, Received, Topic};
use proto::events::{PaymentCaptured, PaymentRefunded};
use sqlx::postgres::PgTransaction;

use crate::receipt::{Receipt, Subject};
use crate::store;

/// Queues a receipt for each captured payment and for each refund. One handler for both, so that each event moves one cursor.
#[derive(Debug, Clone, Copy)]
pub struct QueueReceipts;

/// An event that moved money.
#[derive(Debug, Clone)]
pub enum Moved {
    /// To the merchant.
    Captured(PaymentCaptured),
    /// Back to the customer.
    Refunded(PaymentRefunded),
}

impl Incoming for Moved {
    const TOPIC: Topic = proto::PAYMENTS;

    fn decode(kind: &str, payload: &[u8]) -> Option<Result<Self, BoxError>> {
        match kind {
            PaymentCaptured::KIND => Some(PaymentCaptured::decode(kind, payload)?.map(Self::Captured)),
            PaymentRefunded::KIND => Some(PaymentRefunded::decode(kind, payload)?.map(Self::Refunded)),
            _ => None,
        }
    }
}

impl outbox::Handler for QueueReceipts {
    const NAME: &'static str = "notifications.queue_receipts";
    type Event = Moved;

    // The cursor and this row commit together: a redelivery meets the cursor and is skipped.
    async fn handle(&self, tx: &mut PgTransaction<'_>, received: Received<Moved>) -> Result<(), BoxError> {
        let (state, subject, command) = match received.event {
            Moved::Captured(event) => (event.state, Subject::Payment, None),
            Moved::Refunded(event) => {
                (event.state, Subject::Refund, Some(event.command.ok_or("the event carries no command")?))
            }
        };
        let state = state.ok_or("the event carries no state")?;
        // The state has the sum of all refunds; the command has this one.
        let minor = command.map_or(state.captured_minor, |command| command.amount_minor);
        let receipt = Receipt::new(&received.meta, &state, subject, minor)?;
        Ok(store::queue(tx, &receipt).await?)
    }
}
