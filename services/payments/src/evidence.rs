//! This home's word on what its replica has applied and what it has published.

use async_trait::async_trait;
use outbox::StateTransfer as _;
use payments::Replicate;
use proto::PAYMENTS;
use sqlx::PgPool;
use strangler::{Applied, BoxError, Evidence};

/// Reads the replica's cursors and the log, as the relay's role, which may.
#[derive(Debug, Clone)]
pub(crate) struct Cursors(pub(crate) PgPool);

#[async_trait]
impl Evidence for Cursors {
    async fn applied(&self, keys: &[String]) -> Result<Applied, BoxError> {
        let progress = outbox::progress(&self.0, Replicate::NAME, PAYMENTS, keys).await?;
        Ok(Applied { versions: progress.versions, parked: progress.parked, awaiting: progress.awaiting })
    }

    async fn published(&self, limit: i64) -> Result<Vec<(String, i64)>, BoxError> {
        Ok(outbox::recent_heads(&self.0, PAYMENTS, limit).await?)
    }
}
