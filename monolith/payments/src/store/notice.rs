//! What a notice asks of the tables.

use proto::PaymentId;
use sqlx::postgres::PgTransaction;
use uuid::Uuid;

use crate::notice::Open;
use crate::{Error, Operation};

/// Makes the payment's open intent due now, and says which it is. Whoever works on it goes on undisturbed.
pub(crate) async fn hasten(tx: &mut PgTransaction<'_>, payment: PaymentId) -> Result<Option<Open>, Error> {
    let sql = "
        update payments.intent set next_at = least(next_at, now()) where payment_id = $1 and state <> 'done'
        returning command_id, operation, provider_object";
    let row: Option<(Uuid, String, Option<String>)> =
        sqlx::query_as(sql).bind(payment.uuid()).fetch_optional(&mut **tx).await?;
    let open = row.map(|(command, operation, object)| {
        let operation = Operation::from_word(&operation);
        let operation = operation.map_err(|error| Error::corrupt("an intent's row", error))?;
        Ok(Open { command, operation, object })
    });
    open.transpose()
}
