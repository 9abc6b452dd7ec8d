//! Which payments this home may write.

use async_trait::async_trait;
use payments::{Authority, Births, Epoch, Error};
use proto::PaymentId;
use sqlx::postgres::PgTransaction;

/// The target's authority over payments: those born here, or handed over.
#[derive(Debug, Clone)]
pub struct AtTarget(pub strangler::Authority);

#[async_trait]
impl Authority for AtTarget {
    async fn lock(&self, tx: &mut PgTransaction<'_>, payment: PaymentId) -> Result<Epoch, Error> {
        let epoch = self.0.lock(tx, &payment.to_string()).await.map_err(error)?;
        Ok(Epoch(epoch.get()))
    }

    async fn lock_outcome(&self, tx: &mut PgTransaction<'_>, payment: PaymentId) -> Result<Epoch, Error> {
        let epoch = self.0.lock_outcome(tx, &payment.to_string()).await.map_err(error)?;
        Ok(Epoch(epoch.get()))
    }

    /// Without a lock: a replica only has to see what is committed.
    async fn owns(&self, tx: &mut PgTransaction<'_>, payment: PaymentId) -> Result<bool, Error> {
        self.0.holds(tx, &payment.to_string()).await.map_err(error)
    }

    async fn owns_one_of(
        &self,
        tx: &mut PgTransaction<'_>,
        payments: &[PaymentId],
    ) -> Result<Option<PaymentId>, Error> {
        let keys: Vec<String> = payments.iter().map(PaymentId::to_string).collect();
        let owned = self.0.holds_one_of(tx, &keys).await.map_err(error)?;
        Ok(owned.and_then(|owned| payments.iter().copied().find(|payment| payment.to_string() == owned)))
    }
}

#[async_trait]
impl Births for AtTarget {
    async fn born(
        &self,
        tx: &mut PgTransaction<'_>,
        payment: PaymentId,
        owner: &str,
        epoch: i64,
    ) -> Result<(), Error> {
        match owner.parse::<strangler::Home>().map_err(error)? {
            strangler::Home::Source => Ok(()),
            strangler::Home::Target => {
                self.0.born(tx, &payment.to_string(), strangler::Epoch(epoch)).await.map_err(error)
            }
        }
    }

    async fn offered(
        &self,
        tx: &mut PgTransaction<'_>,
        payments: &[(PaymentId, Epoch)],
    ) -> Result<(), Error> {
        let offer = |(payment, epoch): &(PaymentId, Epoch)| (payment.to_string(), strangler::Epoch(epoch.0));
        let offers: Vec<_> = payments.iter().map(offer).collect();
        self.0.offered_all(tx, &offers).await.map_err(error)
    }

    /// Releases are this home's own.
    async fn released(
        &self,
        _: &mut PgTransaction<'_>,
        _: &[(PaymentId, Epoch)],
    ) -> Result<Vec<PaymentId>, Error> {
        Err(Error::ForeignWrite)
    }
}

fn error(error: strangler::Error) -> Error {
    match error {
        strangler::Error::NotOwner { .. } => Error::NotOwner,
        strangler::Error::ForeignWrite { .. } => Error::ForeignWrite,
        strangler::Error::Database(error) => Error::Database(error),
        error if error.is_retryable() => Error::Busy("it changes its owner"),
        error => Error::Authority(error.into()),
    }
}
