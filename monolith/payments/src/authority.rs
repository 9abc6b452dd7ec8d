//! Who may write a payment. Each home answers in its own way, inside the transaction that writes.

use async_trait::async_trait;
use proto::PaymentId;
use sqlx::postgres::PgTransaction;

use crate::{Epoch, Error};

/// Answers, and pins until the transaction ends, whether this home may write a payment.
#[async_trait]
pub trait Authority: Send + Sync + 'static {
    /// Locks the payment's owner row for share and returns its epoch: for a write that begins something. First lock of a writing
    /// transaction: owner row, payment row, head, always in this order.
    ///
    /// # Errors
    /// [`Error::NotOwner`]; [`Error::Busy`] while the payment moves (the transaction is aborted; roll it back and try again
    /// outside of it); [`Error::Database`].
    async fn lock(&self, tx: &mut PgTransaction<'_>, payment: PaymentId) -> Result<Epoch, Error>;

    /// The same for a write that ends what this home has begun. A payment that was called back stays this home's to end what is
    /// open of it, while nothing new begins.
    ///
    /// # Errors
    /// As [`Authority::lock`], which it is at a home that payments are not called back from.
    async fn lock_outcome(&self, tx: &mut PgTransaction<'_>, payment: PaymentId) -> Result<Epoch, Error> {
        self.lock(tx, payment).await
    }

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

    /// One of these payments that this home owns, if there is one.
    ///
    /// # Errors
    /// As [`Authority::owns`].
    async fn owns_one_of(
        &self,
        tx: &mut PgTransaction<'_>,
        payments: &[PaymentId],
    ) -> Result<Option<PaymentId>, Error> {
        for payment in payments {
            if self.owns(tx, *payment).await? {
                return Ok(Some(*payment));
            }
        }
        Ok(None)
    }
}

/// Told, in the transaction that applies it, of each event that may change who writes a payment. An error keeps the event from
/// being applied; it is tried again.
#[async_trait]
pub trait Births: Send + Sync + 'static {
    /// A payment's first event. `owner` (`source` or `target`) and `epoch` are the event's.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Authority`].
    async fn born(
        &self,
        tx: &mut PgTransaction<'_>,
        payment: PaymentId,
        owner: &str,
        epoch: i64,
    ) -> Result<(), Error>;

    /// The other home gives these payments up, each at its epoch; they are in the order of their ids. This one does not own them yet: it
    /// is told so later, and by others.
    ///
    /// # Errors
    /// As [`Births::born`]; and when this home owns one of them, or is not one that payments are offered to.
    async fn offered(&self, tx: &mut PgTransaction<'_>, payments: &[(PaymentId, Epoch)])
    -> Result<(), Error>;

    /// The other home gives these payments back, each at its epoch; they are in the order of their ids. Returns those that are this
    /// home's to write, from the commit of `tx` on.
    ///
    /// # Errors
    /// As [`Births::born`]; and when the other home did not own one of them.
    async fn released(
        &self,
        tx: &mut PgTransaction<'_>,
        payments: &[(PaymentId, Epoch)],
    ) -> Result<Vec<PaymentId>, Error>;
}
