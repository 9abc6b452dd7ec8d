//! The way to the provider, which this home has only while some payment is its own.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use payments::provider::{
    Failure, Move, NewIntent, Object, Provider, RefundObject, SettlementPage, Stripe, StripeConfig,
};
use sqlx::PgPool;
use strangler::Authority;
use time::OffsetDateTime;
use uuid::Uuid;

/// How long an answer of the database counts. Whose a payment is, each effect's own transaction says.
const HOLDS_FOR: Duration = Duration::from_secs(1);
/// When a request that was not sent may be made again.
const LATER: Duration = Duration::from_secs(1);

/// The provider, for as long as this home may write a payment. Without one it has no client, makes none, and sends nothing.
pub(crate) struct OnlyForOwn {
    authority: Authority,
    pool: PgPool,
    config: StripeConfig,
    metrics: payments::Metrics,
    held: Mutex<Option<Held>>,
}

struct Held {
    client: Arc<Stripe>,
    since: Instant,
}

impl OnlyForOwn {
    /// The pool is the module's own.
    pub(crate) fn new(
        authority: Authority,
        pool: PgPool,
        config: StripeConfig,
        metrics: payments::Metrics,
    ) -> Self {
        Self { authority, pool, config, metrics, held: Mutex::default() }
    }

    /// A client; `None` while no payment is this home's, and then one that was there is given up.
    async fn client(&self) -> Result<Option<Arc<Stripe>>, Failure> {
        if let Some(client) = self.fresh() {
            return Ok(Some(client));
        }
        let asked = Instant::now();
        let owns = self.authority.holds_any(&self.pool).await.map_err(|error| {
            not_now(format!("whether a payment is this home's could not be read: {error}"))
        })?;
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if !owns {
            *held = None;
            return Ok(None);
        }
        // One client for as long as there is a payment: its circuit remembers.
        let client = match held.take() {
            Some(held) => held.client,
            None => {
                let made = Stripe::new(self.config.clone(), self.metrics.clone());
                Arc::new(made.map_err(|error| not_now(error.to_string()))?)
            }
        };
        *held = Some(Held { client: client.clone(), since: asked });
        Ok(Some(client))
    }

    fn fresh(&self) -> Option<Arc<Stripe>> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_ref().filter(|held| held.since.elapsed() < HOLDS_FOR).map(|held| held.client.clone())
    }

    async fn own(&self) -> Result<Arc<Stripe>, Failure> {
        let client = self.client().await?;
        client.ok_or_else(|| not_now("no payment is this home's: it has no way to the provider".to_owned()))
    }
}

fn not_now(why: String) -> Failure {
    Failure::NotNow { why, after: LATER }
}

#[async_trait]
impl Provider for OnlyForOwn {
    async fn create(&self, key: &str, intent: &NewIntent) -> Result<Object, Failure> {
        self.own().await?.create(key, intent).await
    }

    async fn confirm(&self, key: &str, object: &str) -> Result<Object, Failure> {
        self.own().await?.confirm(key, object).await
    }

    async fn capture(&self, key: &str, capture: &Move) -> Result<Object, Failure> {
        self.own().await?.capture(key, capture).await
    }

    async fn cancel(&self, key: &str, object: &str) -> Result<Object, Failure> {
        self.own().await?.cancel(key, object).await
    }

    async fn retrieve(&self, object: &str) -> Result<Object, Failure> {
        self.own().await?.retrieve(object).await
    }

    async fn search(&self, command: Uuid) -> Result<Vec<Object>, Failure> {
        self.own().await?.search(command).await
    }

    async fn refund(&self, key: &str, refund: &Move) -> Result<RefundObject, Failure> {
        self.own().await?.refund(key, refund).await
    }

    async fn refunds(&self, object: &str) -> Result<Vec<RefundObject>, Failure> {
        self.own().await?.refunds(object).await
    }

    /// A home without a payment has nothing to be compared with the list, so there is none for it.
    async fn settlements(
        &self,
        within: Range<OffsetDateTime>,
        after: Option<&str>,
    ) -> Result<Option<SettlementPage>, Failure> {
        match self.client().await? {
            Some(client) => client.settlements(within, after).await,
            None => Ok(None),
        }
    }
}

impl std::fmt::Debug for OnlyForOwn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OnlyForOwn").finish_non_exhaustive()
    }
}
