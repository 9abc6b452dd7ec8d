//! What webhooks need of payments: the desk of both homes.

use std::sync::Arc;

use ::payments::{Desk, Epoch};
use async_trait::async_trait;
use outbox::BoxError;
use webhooks::{Delivered, Notice, Payments};

/// Gives notices to the owners of their payments.
#[derive(Clone)]
pub struct DeliverNotices(pub Arc<dyn Desk>);

#[async_trait]
impl Payments for DeliverNotices {
    async fn deliver(&self, notice: &Notice) -> Result<Delivered, BoxError> {
        let notice = ::payments::Notice {
            id: notice.id.clone(),
            kind: notice.kind.clone(),
            object: notice.object.clone(),
            status: notice.status.clone(),
            payment: notice.payment,
            tenant: notice.tenant.parse()?,
            command: notice.command,
            created: notice.happened_at,
        };
        // The seam finds the owner's epoch.
        Ok(match self.0.deliver(&notice, Epoch::UNKNOWN).await? {
            ::payments::Delivered::Applied => Delivered::Applied,
            ::payments::Delivered::Surprise(what) => Delivered::Surprise(what),
            ::payments::Delivered::Early => Delivered::Early,
        })
    }
}
