//! Writes that know more of their payment's owner than this home: the source sends a settled epoch with each, and one above this
//! home's says that the payment was handed over, before the controller has come to say it.

use std::sync::Arc;

use async_trait::async_trait;
use payments::{
    Balance, Capture, Delivered, Desk, Epoch, Error, Notice, Page, Payment, Refund, Tenant, Void,
};
use proto::{Money, PaymentId};
use strangler::{Reply, Target};
use tokio_util::task::TaskTracker;

/// A desk that takes a write's epoch for a grant when it hears that this home is not the owner, or that it must wait, and the epoch is
/// above this home's: a recall may have been cancelled since.
pub(crate) struct Granting {
    desk: Arc<dyn Desk>,
    target: Target,
    tasks: TaskTracker,
}

impl Granting {
    /// Over the home's desk. The process waits for `tasks` before it ends.
    pub(crate) fn new(desk: Arc<dyn Desk>, target: Target, tasks: TaskTracker) -> Self {
        Self { desk, target, tasks }
    }

    /// Runs a write, and once more when its epoch was news to this home and made it the owner: what was refused for that has done
    /// nothing.
    async fn write<T, F>(
        &self,
        payment: PaymentId,
        epoch: Epoch,
        run: impl Fn() -> F + Send,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>> + Send,
        T: Send,
    {
        let answer = run().await;
        let (foreign, busy) = (matches!(answer, Err(Error::NotOwner)), matches!(answer, Err(Error::Busy(_))));
        let epoch = strangler::Epoch(epoch.0);
        // A payment that was born here, at the first epoch, needs no grant.
        if epoch <= strangler::Epoch::BIRTH {
            return answer;
        }
        // Most that are busy are so for another reason than an earlier epoch.
        let granted = foreign && self.granted(payment, epoch).await
            || busy && self.is_behind(payment, epoch).await && self.granted(payment, epoch).await;
        if granted { run().await } else { answer }
    }

    async fn is_behind(&self, payment: PaymentId, epoch: strangler::Epoch) -> bool {
        let behind = self.target.is_behind(&payment.to_string(), epoch).await;
        behind.unwrap_or_else(|error| {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(%payment, %epoch, error, "the epoch of a write could not be compared");
            false
        })
    }

    /// In a transaction of its own, and a task: it must not be dropped with the call.
    async fn granted(&self, payment: PaymentId, epoch: strangler::Epoch) -> bool {
        let target = self.target.clone();
        let work = async move { target.grant(&[(payment.to_string(), epoch)]).await };
        match chassis::shield(&self.tasks, work).await {
            Ok(Ok(replies)) => matches!(replies.first(), Some((_, Reply::Granted))),
            Ok(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(%payment, %epoch, error, "the epoch of a write could not be taken over");
                false
            }
            // Its panic is told where it happened.
            Err(_) => false,
        }
    }
}

#[async_trait]
impl Desk for Granting {
    async fn find(&self, tenant: &Tenant, id: PaymentId) -> Result<Payment, Error> {
        self.desk.find(tenant, id).await
    }

    async fn find_copy(&self, tenant: &Tenant, id: PaymentId, at_least: i64) -> Result<Payment, Error> {
        self.desk.find_copy(tenant, id, at_least).await
    }

    async fn list(&self, tenant: &Tenant, page: Page) -> Result<Vec<Payment>, Error> {
        self.desk.list(tenant, page).await
    }

    async fn trial_balance(&self, tenant: &Tenant) -> Result<Vec<Balance>, Error> {
        self.desk.trial_balance(tenant).await
    }

    async fn quote_fee(&self, amount: Money) -> Result<Money, Error> {
        self.desk.quote_fee(amount).await
    }

    async fn capture(&self, capture: &Capture, epoch: Epoch) -> Result<Payment, Error> {
        self.write(capture.payment, epoch, || self.desk.capture(capture, epoch)).await
    }

    async fn void(&self, void: &Void, epoch: Epoch) -> Result<Payment, Error> {
        self.write(void.payment, epoch, || self.desk.void(void, epoch)).await
    }

    async fn refund(&self, refund: &Refund, epoch: Epoch) -> Result<Payment, Error> {
        self.write(refund.payment, epoch, || self.desk.refund(refund, epoch)).await
    }

    async fn deliver(&self, notice: &Notice, epoch: Epoch) -> Result<Delivered, Error> {
        self.write(notice.payment, epoch, || self.desk.deliver(notice, epoch)).await
    }
}
