//! How payments are given up and taken over here.

use async_trait::async_trait;
use payments::Epoch;
use payments::movable::{self, Record};
use proto::{InvalidId, PaymentId};
use sqlx::PgPool;
use sqlx::postgres::PgTransaction;
use strangler::{BoxError, Heard, Home, KeyCopy, Movable, Pinned};

/// This home's payments, as the migration moves them. The pool is the module's own.
#[derive(Debug, Clone)]
pub(crate) struct Payments(pub(crate) PgPool);

#[async_trait]
impl Movable for Payments {
    async fn begin(&self) -> Result<PgTransaction<'static>, BoxError> {
        Ok(self.0.begin().await?)
    }

    async fn pinned(&self, tx: &mut PgTransaction<'_>, keys: &[String]) -> Result<Vec<Pinned>, BoxError> {
        let pinned = movable::pinned(tx, &ids(keys)?).await?;
        Ok(pinned.into_iter().map(|(id, why)| Pinned { key: id.to_string(), why }).collect())
    }

    async fn give(
        &self,
        tx: &mut PgTransaction<'_>,
        keys: &[(String, strangler::Epoch)],
    ) -> Result<(), BoxError> {
        let given = keys.iter().map(|(key, epoch)| key.parse().map(|id: PaymentId| (id, Epoch(epoch.get()))));
        let given = given.collect::<Result<Vec<_>, InvalidId>>()?;
        Ok(movable::give(tx, &given, Record::Release).await?)
    }

    async fn gained(&self, tx: &mut PgTransaction<'_>, keys: &[String]) -> Result<(), BoxError> {
        Ok(movable::gained(tx, &ids(keys)?).await?)
    }

    async fn beat(&self, tx: &mut PgTransaction<'_>) -> Result<(), BoxError> {
        payments::beat(tx, Home::Target.name()).await?;
        Ok(())
    }

    async fn heard(&self) -> Result<Heard, BoxError> {
        let last = payments::heard(&self.0).await?;
        let last = last.map(|payments::Heartbeat { sequence, sent_at, received_at, age }| {
            Heard::Last(strangler::Heartbeat { sequence, sent_at, received_at, age })
        });
        Ok(last.unwrap_or(Heard::Nothing))
    }

    async fn known(&self, tx: &mut PgTransaction<'_>, keys: &[String]) -> Result<Vec<String>, BoxError> {
        let known = movable::known(tx, &ids(keys)?).await?;
        Ok(known.iter().map(PaymentId::to_string).collect())
    }

    async fn snapshot(&self, tx: &mut PgTransaction<'_>, keys: &[String]) -> Result<Vec<Pinned>, BoxError> {
        let left = movable::snapshot(tx, &ids(keys)?).await?;
        Ok(left.into_iter().map(|(id, why)| Pinned { key: id.to_string(), why }).collect())
    }

    async fn copies(
        &self,
        after: Option<&str>,
        upto: Option<&str>,
        limit: i64,
    ) -> Result<Vec<KeyCopy>, BoxError> {
        let after = after.map(str::parse::<PaymentId>).transpose()?;
        let upto = upto.map(str::parse::<PaymentId>).transpose()?;
        let copies = payments::copies(&self.0, after, upto, limit).await?;
        let copy = |payments::PaymentCopy { payment, version, hash }| KeyCopy {
            key: payment.to_string(),
            version,
            hash,
        };
        Ok(copies.into_iter().map(copy).collect())
    }
}

fn ids(keys: &[String]) -> Result<Vec<PaymentId>, InvalidId> {
    keys.iter().map(|key| key.parse()).collect()
}
