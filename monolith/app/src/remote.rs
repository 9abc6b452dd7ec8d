//! The payments service over gRPC, as a desk.

mod answer;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chassis::service_token::{Bearer, set_tenant};
use payments::{
    Actor, Balance, Capture, Delivered, Desk, Epoch, Error, Notice, Page, Payment, Refund, Tenant, Violation,
    Void,
};
use proto::homes::{ACTOR, AT_LEAST, EPOCH};
use proto::payments as wire;
use proto::payments::payments_service_client::PaymentsServiceClient;
use proto::{Money, PaymentId};
use tokio::sync::Semaphore;
use tonic::metadata::MetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use self::answer::{failed, missing, read_balance, read_delivered, read_payment};

/// How long a read may take, connecting included.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a command may take. The service itself answers `outcome_pending` before that.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(12);

/// How many notices may be with the service at once: half of those that a dispatcher delivers at once.
const NOTICES_MAX: usize = 8;

/// The desk of the payments service. Clones share the connection.
#[derive(Debug, Clone)]
pub struct Remote {
    client: PaymentsServiceClient<InterceptedService<Channel, Bearer>>,
    /// Turns for notices.
    notices: Arc<Semaphore>,
}

impl Remote {
    /// Over a channel that connects when it is first used; `bearer` signs each call.
    pub fn new(channel: Channel, bearer: Bearer) -> Self {
        let client = PaymentsServiceClient::with_interceptor(channel, bearer);
        Self { client, notices: Arc::new(Semaphore::new(NOTICES_MAX)) }
    }
}

#[async_trait]
impl Desk for Remote {
    async fn find(&self, tenant: &Tenant, id: PaymentId) -> Result<Payment, Error> {
        let request =
            call(wire::GetPaymentRequest { payment_id: id.to_string() }, Some(tenant), READ_TIMEOUT)?;
        let response = self.client.clone().get_payment(request).await.map_err(|status| failed(&status))?;
        read_payment(tenant, response.into_inner().payment)
    }

    async fn find_copy(&self, tenant: &Tenant, id: PaymentId, at_least: i64) -> Result<Payment, Error> {
        let request = wire::GetPaymentRequest { payment_id: id.to_string() };
        let mut request = call(request, Some(tenant), READ_TIMEOUT)?;
        request.metadata_mut().insert(AT_LEAST, MetadataValue::from(at_least));
        let response = self.client.clone().get_payment(request).await.map_err(|status| failed(&status))?;
        read_payment(tenant, response.into_inner().payment)
    }

    /// Walks the service's pages as they are: for the monolith's lists once the source is sealed, and in the build without its half.
    async fn list(&self, tenant: &Tenant, page: Page) -> Result<Vec<Payment>, Error> {
        let page_size = i32::try_from(page.size).unwrap_or(i32::MAX);
        let page_token = page.after.map(|id| id.to_string()).unwrap_or_default();
        let request = wire::ListPaymentsRequest { page_size, page_token };
        let request = call(request, Some(tenant), READ_TIMEOUT)?;
        let response = self.client.clone().list_payments(request).await.map_err(|status| failed(&status))?;
        let payments = response.into_inner().payments;
        payments.into_iter().map(|payment| read_payment(tenant, Some(payment))).collect()
    }

    async fn trial_balance(&self, tenant: &Tenant) -> Result<Vec<Balance>, Error> {
        let request = call(wire::GetTrialBalanceRequest {}, Some(tenant), READ_TIMEOUT)?;
        let response = self.client.clone().get_trial_balance(request).await;
        let balances = response.map_err(|status| failed(&status))?.into_inner().balances;
        balances.into_iter().map(read_balance).collect()
    }

    async fn quote_fee(&self, amount: Money) -> Result<Money, Error> {
        let request = call(wire::QuoteFeeRequest { amount: Some(amount.into()) }, None, READ_TIMEOUT)?;
        let response = self.client.clone().quote_fee(request).await.map_err(|status| failed(&status))?;
        let fee = response.into_inner().fee.ok_or_else(|| missing("the fee"))?;
        fee.try_into().map_err(|error| Error::Corrupt { what: "the fee", source: Box::new(error) })
    }

    async fn capture(&self, capture: &Capture, epoch: Epoch) -> Result<Payment, Error> {
        let request = wire::CapturePaymentRequest {
            payment_id: capture.payment.to_string(),
            amount_minor: capture.amount_minor,
            idempotency_key: capture.key.to_string(),
            reason: capture.reason.clone(),
            // The edge has compared it.
            currency: None,
        };
        let request = command(request, &capture.tenant, &capture.by, epoch)?;
        let response = self.client.clone().capture_payment(request).await;
        done(&capture.tenant, response, |response| response.payment)
    }

    async fn void(&self, void: &Void, epoch: Epoch) -> Result<Payment, Error> {
        let request = wire::VoidPaymentRequest {
            payment_id: void.payment.to_string(),
            idempotency_key: void.key.to_string(),
            reason: void.reason.clone(),
        };
        let request = command(request, &void.tenant, &void.by, epoch)?;
        let response = self.client.clone().void_payment(request).await;
        done(&void.tenant, response, |response| response.payment)
    }

    async fn refund(&self, refund: &Refund, epoch: Epoch) -> Result<Payment, Error> {
        let request = wire::RefundPaymentRequest {
            payment_id: refund.payment.to_string(),
            amount_minor: refund.amount_minor,
            idempotency_key: refund.key.to_string(),
            reason: refund.reason.clone(),
            currency: None,
        };
        let request = command(request, &refund.tenant, &refund.by, epoch)?;
        let response = self.client.clone().refund_payment(request).await;
        done(&refund.tenant, response, |response| response.payment)
    }

    /// Refuses at once what finds no turn. While the service hangs each notice that is with it keeps a slot of the
    /// dispatcher's until its time is over, and those of this home's payments would stand behind them.
    async fn deliver(&self, notice: &Notice, epoch: Epoch) -> Result<Delivered, Error> {
        let full = |_| Error::Unavailable("too many notices are with the payments service".to_owned());
        let _turn = self.notices.try_acquire().map_err(full)?;
        let mut request = call(webhook(notice), Some(&notice.tenant), READ_TIMEOUT)?;
        request.metadata_mut().insert(EPOCH, MetadataValue::from(epoch.0));
        let response =
            self.client.clone().deliver_webhook(request).await.map_err(|status| failed(&status))?;
        read_delivered(response.into_inner())
    }
}

fn call<T>(message: T, tenant: Option<&Tenant>, timeout: Duration) -> Result<Request<T>, Error> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    if let Some(tenant) = tenant {
        set_tenant(&mut request, tenant.as_str()).map_err(|status| failed(&status))?;
    }
    Ok(request)
}

fn command<T>(message: T, tenant: &Tenant, by: &Actor, epoch: Epoch) -> Result<Request<T>, Error> {
    let mut request = call(message, Some(tenant), COMMAND_TIMEOUT)?;
    let by = by
        .as_str()
        .parse()
        .map_err(|_| Error::Invalid(vec![Violation::new("actor", "not a header's value")]))?;
    // Else the service would take this process for who asks.
    request.metadata_mut().insert(ACTOR, by);
    request.metadata_mut().insert(EPOCH, MetadataValue::from(epoch.0));
    Ok(request)
}

fn webhook(notice: &Notice) -> wire::DeliverWebhookRequest {
    let created_ms = notice.created.unix_timestamp_nanos() / 1_000_000;
    wire::DeliverWebhookRequest {
        event_id: notice.id.clone(),
        kind: notice.kind.clone(),
        object: notice.object.clone(),
        status: notice.status.clone(),
        payment_id: notice.payment.to_string(),
        command_id: notice.command.map(|command| command.to_string()).unwrap_or_default(),
        // Every time of the database fits.
        created_ms: i64::try_from(created_ms).unwrap_or_default(),
    }
}

/// A command's answer; one whose outcome the service does not know yet is an error here, as it is of a local desk.
fn done<T>(
    tenant: &Tenant,
    response: Result<Response<T>, Status>,
    payment: impl Fn(T) -> Option<wire::Payment>,
) -> Result<Payment, Error> {
    let response = response.map_err(|status| failed(&status))?.into_inner();
    let payment = read_payment(tenant, payment(response))?;
    if payment.outcome_pending { Err(Error::OutcomePending(Box::new(payment))) } else { Ok(payment) }
}
