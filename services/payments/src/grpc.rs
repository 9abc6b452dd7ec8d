//! `payments.v1.PaymentsService` over a desk, and what is mounted beside it.

mod call;
mod status;
mod webhook;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chassis::card::grpc::Guard;
use chassis::service_token::Gate;
use chassis::telemetry::Requests;
use chassis::token::Verifier;
use payments::{Capture, Desk, Error, Page, Payment, Refund, Tenant, Void};
use proto::PaymentId;
use proto::homes::MONOLITH;
use proto::payments as v1;
use proto::payments::payments_service_server::{PaymentsService, PaymentsServiceServer};
use strangler::{Evidence, Target, control};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_server::{Health, HealthServer};

use self::call::{Call, Fields, actor, at_least, tenant};

/// The largest request. The longest has three short fields.
const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// The largest request to the migration's control, which is tonic's own bound: 1000 keys of 255 bytes are well below.
const CONTROL_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The largest answer: a page of the most payments is well below.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Calls at once on one connection; more wait at the client.
const STREAMS_MAX: u32 = 256;
/// Bytes of metadata of one call.
const METADATA_BYTES_MAX: u32 = 16 * 1024;
/// A silent connection is asked for a sign of life after this time, and closed without one after the next.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// The service over any desk.
#[derive(Clone)]
pub struct Server {
    desk: Arc<dyn Desk>,
}

impl Server {
    /// Over a desk.
    pub fn new(desk: Arc<dyn Desk>) -> Self {
        Self { desk }
    }

    /// Refuses a currency that is not the payment's. A payment never changes its own, so it may be read before the command.
    async fn in_currency(
        &self,
        call: &Call,
        tenant: &Tenant,
        payment: PaymentId,
        given: Option<&str>,
    ) -> Result<(), Status> {
        let Some(given) = given else { return Ok(()) };
        let mut fields = Fields::default();
        let given = fields.currency(given);
        let given = fields.all(given)?;
        let currency = call.within(self.desk.find(tenant, payment)).await?.amount.currency;
        if given == currency { Ok(()) } else { Err(status::wrong_currency(given, currency)) }
    }
}

/// The service behind a service token and the migration's control behind the source's, without card numbers; health and reflection, which keep
/// nothing, open to anyone who gets here.
pub(crate) fn services(
    server: Server,
    (evidence, target): (Arc<impl Evidence>, Target),
    verifier: Verifier,
    health: HealthServer<impl Health>,
) -> Result<Routes, tonic_reflection::server::Error> {
    let gate = Gate::new(verifier);
    // Only it moves payments between the homes.
    let source = gate.clone().only(MONOLITH);
    let payments = PaymentsServiceServer::new(server)
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(ANSWER_BYTES_MAX);
    let control = control::serve(evidence, target);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(control::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let guarded = Guard::new(payments, status::DOMAIN, call::METADATA, REQUEST_BYTES_MAX);
    let control = Guard::new(control, status::DOMAIN, call::METADATA, CONTROL_BYTES_MAX);
    Ok(Routes::new(InterceptedService::new(guarded, gate))
        .add_service(InterceptedService::new(control, source))
        .add_service(health)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?))
}

/// Serves until the token is cancelled, then ends the calls in flight; the process' grace bounds that.
pub(crate) async fn serve(
    listener: TcpListener,
    services: Routes,
    requests: Requests,
    shutdown: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    tonic::transport::Server::builder()
        .layer(requests)
        .max_concurrent_streams(STREAMS_MAX)
        .http2_max_header_list_size(METADATA_BYTES_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE_EVERY))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_routes(services)
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            shutdown.cancelled_owned(),
        )
        .await
}

#[async_trait]
impl PaymentsService for Server {
    async fn get_payment(
        &self,
        request: Request<v1::GetPaymentRequest>,
    ) -> Result<Response<v1::GetPaymentResponse>, Status> {
        let (call, tenant) = (Call::of(&request)?, tenant(&request)?);
        let mut fields = Fields::default();
        let id = fields.payment_id(&request.get_ref().payment_id);
        let id = fields.all(id)?;
        let payment = match at_least(&request)? {
            None => call.within(self.desk.find(&tenant, id)).await?,
            Some(at_least) => call.within(self.desk.find_copy(&tenant, id, at_least)).await?,
        };
        Ok(Response::new(v1::GetPaymentResponse { payment: Some(wire::payment(&payment)) }))
    }

    async fn list_payments(
        &self,
        request: Request<v1::ListPaymentsRequest>,
    ) -> Result<Response<v1::ListPaymentsResponse>, Status> {
        let (call, tenant) = (Call::of(&request)?, tenant(&request)?);
        let mut fields = Fields::default();
        let page = fields.page(request.get_ref());
        let page: Page = fields.all(page)?;
        let payments = call.within(self.desk.list(&tenant, page)).await?;
        // A full page may be the last one; then the next is empty.
        let full = i64::try_from(payments.len()).is_ok_and(|count| count == page.size);
        let last = payments.last().filter(|_| full);
        Ok(Response::new(v1::ListPaymentsResponse {
            next_page_token: last.map(|payment| payment.id.to_string()).unwrap_or_default(),
            payments: payments.iter().map(wire::payment).collect(),
        }))
    }

    async fn get_trial_balance(
        &self,
        request: Request<v1::GetTrialBalanceRequest>,
    ) -> Result<Response<v1::GetTrialBalanceResponse>, Status> {
        let (call, tenant) = (Call::of(&request)?, tenant(&request)?);
        let balances = call.within(self.desk.trial_balance(&tenant)).await?;
        Ok(Response::new(v1::GetTrialBalanceResponse {
            balances: balances.iter().map(wire::balance).collect(),
        }))
    }

    async fn quote_fee(
        &self,
        request: Request<v1::QuoteFeeRequest>,
    ) -> Result<Response<v1::QuoteFeeResponse>, Status> {
        let call = Call::of(&request)?;
        let mut fields = Fields::default();
        let amount = fields.amount(request.into_inner().amount);
        let amount = fields.all(amount)?;
        let fee = call.within(self.desk.quote_fee(amount)).await?;
        Ok(Response::new(v1::QuoteFeeResponse { fee: Some(fee.into()) }))
    }

    async fn capture_payment(
        &self,
        request: Request<v1::CapturePaymentRequest>,
    ) -> Result<Response<v1::CapturePaymentResponse>, Status> {
        let (call, tenant) = (Call::of(&request)?, tenant(&request)?);
        let message = request.get_ref();
        let mut fields = Fields::default();
        let (payment, key) = (fields.payment_id(&message.payment_id), fields.key(&message.idempotency_key));
        let (payment, key) = fields.all(payment.zip(key))?;
        let capture = Capture {
            tenant,
            payment,
            amount_minor: message.amount_minor,
            key,
            by: actor(&request)?,
            reason: message.reason.clone(),
        };
        self.in_currency(&call, &capture.tenant, payment, message.currency.as_deref()).await?;
        let payment = call.within(accepted(self.desk.capture(&capture, call.epoch))).await?;
        Ok(Response::new(v1::CapturePaymentResponse { payment: Some(wire::payment(&payment)) }))
    }

    async fn void_payment(
        &self,
        request: Request<v1::VoidPaymentRequest>,
    ) -> Result<Response<v1::VoidPaymentResponse>, Status> {
        let (call, tenant) = (Call::of(&request)?, tenant(&request)?);
        let message = request.get_ref();
        let mut fields = Fields::default();
        let (payment, key) = (fields.payment_id(&message.payment_id), fields.key(&message.idempotency_key));
        let (payment, key) = fields.all(payment.zip(key))?;
        let void = Void { tenant, payment, key, by: actor(&request)?, reason: message.reason.clone() };
        let payment = call.within(accepted(self.desk.void(&void, call.epoch))).await?;
        Ok(Response::new(v1::VoidPaymentResponse { payment: Some(wire::payment(&payment)) }))
    }

    async fn refund_payment(
        &self,
        request: Request<v1::RefundPaymentRequest>,
    ) -> Result<Response<v1::RefundPaymentResponse>, Status> {
        let (call, tenant) = (Call::of(&request)?, tenant(&request)?);
        let message = request.get_ref();
        let mut fields = Fields::default();
        let (payment, key) = (fields.payment_id(&message.payment_id), fields.key(&message.idempotency_key));
        let (payment, key) = fields.all(payment.zip(key))?;
        let refund = Refund {
            tenant,
            payment,
            amount_minor: message.amount_minor,
            key,
            by: actor(&request)?,
            reason: message.reason.clone(),
        };
        self.in_currency(&call, &refund.tenant, payment, message.currency.as_deref()).await?;
        let payment = call.within(accepted(self.desk.refund(&refund, call.epoch))).await?;
        Ok(Response::new(v1::RefundPaymentResponse { payment: Some(wire::payment(&payment)) }))
    }

    async fn deliver_webhook(
        &self,
        request: Request<v1::DeliverWebhookRequest>,
    ) -> Result<Response<v1::DeliverWebhookResponse>, Status> {
        let (call, tenant) = (Call::of(&request)?, tenant(&request)?);
        let notice = webhook::notice(request.into_inner(), tenant)?;
        let delivered = call.within(self.desk.deliver(&notice, call.epoch)).await?;
        Ok(Response::new(webhook::response(delivered)))
    }
}

/// A command whose outcome is not known yet is accepted: `outcome_pending` says so.
async fn accepted(command: impl Future<Output = Result<Payment, Error>>) -> Result<Payment, Error> {
    match command.await {
        Err(Error::OutcomePending(payment)) => Ok(*payment),
        answer => answer,
    }
}
