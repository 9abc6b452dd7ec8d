//! The whole of a payment in one event, from which a home without it, or with old rows of it, starts again.

use proto::{PAYMENTS, PaymentId};
use sqlx::postgres::PgTransaction;

use crate::whole::wholes;
use crate::{Error, Payment, store};

/// Publishes a payment's state, all its ledger transactions and adjustments and the answers that are still kept, and returns the
/// event's version. The transaction is read committed, and has locked the owner row; nobody but the owner may publish one.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Behind`] when this home's row is not what the stream ends with; [`Error::Outbox`] for a payment
/// whose whole is over the outbox's largest payload.
pub async fn snapshot(tx: &mut PgTransaction<'_>, payment: PaymentId) -> Result<i64, Error> {
    let before = store::lock(tx, payment).await?.ok_or(Error::NotFound)?;
    let head = outbox::lock(tx, PAYMENTS, &payment.to_string()).await?;
    if head != before.version {
        return Err(Error::Behind { here: before.version, head });
    }
    let whole = wholes(tx, std::slice::from_ref(&before)).await?.pop().ok_or(Error::NotFound)?;
    let version = outbox::publish(tx, &whole).await?;
    let after = Payment { version, ..before };
    if !store::update(tx, &after, head).await? {
        return Err(Error::Behind { here: after.version, head: version });
    }
    Ok(version)
}
