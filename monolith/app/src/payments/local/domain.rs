//! Payments, as the migration's controller sees them at the source.

use ::payments::movable::{self, Record};
use ::payments::{PaymentCopy, Replicate};
use async_trait::async_trait;
use orders::Orders;
use outbox::{BoxError, StateTransfer as _, Wake};
use proto::{HEARTBEAT_KEYS, PAYMENTS};
use sqlx::PgPool;
use sqlx::postgres::PgTransaction;
use strangler::{Applied, Heard, Home, Key, KeyCopy, Pinned};
use tokio_util::task::TaskTracker;

use super::books::Books;
use super::epoch_of;
use crate::payments::keys;

/// Payments, as the migration's controller sees them here.
#[derive(Clone)]
pub struct PaymentsDomain {
    orders: Orders,
    payments: PgPool,
    /// Its role may read cursors and the log.
    outbox: PgPool,
    books: Books,
    /// Of the relay in this process, if there is one.
    wake: Wake,
}

impl PaymentsDomain {
    /// `payments` is the module's own pool, `outbox` one whose role may read cursors and the log. What is under way in `work` at the end of the process
    /// is waited for.
    pub fn new(orders: Orders, payments: PgPool, outbox: PgPool, work: TaskTracker, wake: Wake) -> Self {
        Self { orders, payments, outbox, books: Books::new(work), wake }
    }
}

#[async_trait]
impl strangler::Movable for PaymentsDomain {
    async fn begin(&self) -> Result<PgTransaction<'static>, BoxError> {
        Ok(self.payments.begin().await?)
    }

    async fn pinned(&self, tx: &mut PgTransaction<'_>, keys: &[String]) -> Result<Vec<Pinned>, BoxError> {
        Ok(pins(movable::pinned(tx, keys).await?))
    }

    async fn give(
        &self,
        tx: &mut PgTransaction<'_>,
        keys: &[(String, strangler::Epoch)],
    ) -> Result<(), BoxError> {
        let given: Vec<_> = keys.iter().map(|(key, epoch)| (key.as_str(), epoch_of(*epoch))).collect();
        Ok(movable::give(tx, &given, Record::Offer).await?)
    }

    async fn gained(&self, tx: &mut PgTransaction<'_>, keys: &[String]) -> Result<(), BoxError> {
        Ok(movable::gained(tx, keys).await?)
    }

    async fn beat(&self, tx: &mut PgTransaction<'_>) -> Result<(), BoxError> {
        ::payments::beat(tx, Home::Source.name()).await?;
        Ok(())
    }

    fn committed(&self) {
        self.wake.now();
    }

    async fn heard(&self) -> Result<Heard, BoxError> {
        let last = ::payments::heard(&self.payments).await?;
        let last = last.map(|::payments::Heartbeat { sequence, sent_at, received_at, age }| {
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
        let copies = ::payments::copies(&self.payments, after, upto, limit).await?;
        let copy = |PaymentCopy { key, version, hash }| KeyCopy { key, version, hash };
        Ok(copies.into_iter().map(copy).collect())
    }
}

fn pins(found: Vec<(String, String)>) -> Vec<Pinned> {
    found.into_iter().map(|(key, why)| Pinned { key, why }).collect()
}

#[async_trait]
impl strangler::Domain for PaymentsDomain {
    /// From the orders: they name payments whose first event is not applied yet, too.
    async fn keys(&self, after: Option<&str>, limit: i64) -> Result<Vec<Key>, BoxError> {
        keys(&self.orders, after, limit).await
    }

    /// From the log, by its index: what this home published is what the other one must reach. The table of payments has no index on
    /// its time, and each status asks.
    async fn versions(&self, limit: i64) -> Result<Vec<(String, i64)>, BoxError> {
        Ok(outbox::recent_heads(&self.outbox, PAYMENTS, &HEARTBEAT_KEYS, limit).await?)
    }

    async fn reverse_feed(&self, keys: &[String]) -> Result<Applied, BoxError> {
        let progress = outbox::progress(&self.outbox, Replicate::NAME, PAYMENTS, keys).await?;
        Ok(Applied { versions: progress.versions, parked: progress.parked, awaiting: progress.awaiting })
    }

    /// The replica's books are here too, so a booking of either home that does not balance is found.
    async fn broken(&self) -> Result<Option<String>, BoxError> {
        let pool = self.payments.clone();
        Ok(self.books.broken(|| async move { ::payments::unbalanced(&pool).await }).await?)
    }

    /// The tables that name them are to be deleted, and from the seal on nobody can close one here.
    async fn left_open(&self) -> Result<Option<String>, BoxError> {
        let open = ::payments::open_differences(&self.payments).await?;
        let says =
            || format!("{open} differences of the source's books are open: `monolith reconcile` names them");
        Ok((open > 0).then(says))
    }

    async fn outcomes(&self) -> Result<Vec<String>, BoxError> {
        Ok(::payments::shadow::outcomes(&self.payments).await?)
    }
}
