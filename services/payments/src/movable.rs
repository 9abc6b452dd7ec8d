//! How payments are given up and taken over here.

use async_trait::async_trait;
use outbox::Wake;
use payments::movable::{self, Record};
use payments::{Epoch, PaymentCopy};
use sqlx::PgPool;
use sqlx::postgres::PgTransaction;
use strangler::{BoxError, Heard, Home, KeyCopy, Movable, Pinned};

/// This home's payments, as the migration moves them.
#[derive(Debug, Clone)]
pub(crate) struct Payments {
    /// The module's own.
    pub(crate) pool: PgPool,
    /// Of the relay in this process, if there is one.
    pub(crate) wake: Wake,
}

#[async_trait]
impl Movable for Payments {
    async fn begin(&self) -> Result<PgTransaction<'static>, BoxError> {
        Ok(self.pool.begin().await?)
    }

    async fn pinned(&self, tx: &mut PgTransaction<'_>, keys: &[String]) -> Result<Vec<Pinned>, BoxError> {
        Ok(pins(movable::pinned(tx, keys).await?))
    }

    async fn give(
        &self,
        tx: &mut PgTransaction<'_>,
        keys: &[(String, strangler::Epoch)],
    ) -> Result<(), BoxError> {
        let given: Vec<_> = keys.iter().map(|(key, epoch)| (key.as_str(), Epoch(epoch.get()))).collect();
        Ok(movable::give(tx, &given, Record::Release).await?)
    }

    async fn gained(&self, tx: &mut PgTransaction<'_>, keys: &[String]) -> Result<(), BoxError> {
        Ok(movable::gained(tx, keys).await?)
    }

    async fn beat(&self, tx: &mut PgTransaction<'_>) -> Result<(), BoxError> {
        payments::beat(tx, Home::Target.name()).await?;
        Ok(())
    }

    fn committed(&self) {
        self.wake.now();
    }

    async fn heard(&self) -> Result<Heard, BoxError> {
        let last = payments::heard(&self.pool).await?;
        let last = last.map(|payments::Heartbeat { sequence, sent_at, received_at, age }| {
            Heard::Last(strangler::Heartbeat { sequence, sent_at, received_at, age })
        });
        Ok(last.unwrap_or(Heard::Nothing))
    }

    async fn known(&self, tx: &mut PgTransaction<'_>, keys: &[String]) -> Result<Vec<String>, BoxError> {
        Ok(movable::known(tx, keys).await?)
    }

    async fn snapshot(&self, tx: &mut PgTransaction<'_>, keys: &[String]) -> Result<Vec<Pinned>, BoxError> {
        Ok(pins(movable::snapshot(tx, keys).await?))
    }

    async fn copies(
        &self,
        after: Option<&str>,
        upto: Option<&str>,
        limit: i64,
    ) -> Result<Vec<KeyCopy>, BoxError> {
        let copies = payments::copies(&self.pool, after, upto, limit).await?;
        let copy = |PaymentCopy { key, version, hash }| KeyCopy { key, version, hash };
        Ok(copies.into_iter().map(copy).collect())
    }
}

fn pins(found: Vec<(String, String)>) -> Vec<Pinned> {
    found.into_iter().map(|(key, why)| Pinned { key, why }).collect()
}
