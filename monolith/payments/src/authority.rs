//! Who may write a payment. Each home answers in its own way, inside the transaction that writes.

use async_trait::async_trait;
use proto::PaymentId;
use sqlx::postgres::PgTransaction;

use crate::{Epoch, Error};

/// Answers, and pins until the transaction ends, whether this home may write a payment.
#[async_trait]
pub trait Authority: Send + Sync + 'static {
    /// Locks the payment's owner row for share and returns its epoch. First lock of a writing transaction: owner row,
    /// payment row, head, always in this order.
    ///
    /// # Errors
    /// [`Error::NotOwner`]; [`Error::Busy`] while the payment moves (the transaction is aborted; roll it back and try again
    /// outside of it); [`Error::Database`].
    async fn lock(&self, tx: &mut PgTransaction<'_>, payment: PaymentId) -> Result<Epoch, Error>;

    /// Whether this home owns the payment; for replicas, which refuse a foreign write to a payment of their own.
    ///
    /// # Errors
    /// As [`Authority::lock`], which it uses, but for [`Error::NotOwner`].
    async fn owns(&self, tx: &mut PgTransaction<'_>, payment: PaymentId) -> Result<bool, Error> {
        match self.lock(tx, payment).await {
            Ok(_) => Ok(true),
            Err(Error::NotOwner) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Told when a payment's first event is applied, in that transaction.
#[async_trait]
pub trait Births: Send + Sync + 'static {
    /// `owner` (`source` or `target`) and `epoch` are the event's.
    ///
    /// # Errors
    /// An error keeps the event from being applied; it is tried again.
    async fn born(
        &self,
        tx: &mut PgTransaction<'_>,
        payment: PaymentId,
        owner: &str,
        epoch: i64,
    ) -> Result<(), Error>;
}

/// For the source, where the owner is stored before the event is published.
#[derive(Debug, Clone, Copy)]
pub struct NoBirths;

#[async_trait]
impl Births for NoBirths {
    async fn born(&self, _: &mut PgTransaction<'_>, _: PaymentId, _: &str, _: i64) -> Result<(), Error> {
        Ok(())
    }
}
