//! The payments service over gRPC: health and reflection answer, strangers are refused, and each error has its code.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chassis::listening::Listening;
use chassis::token::{Issuer, Role};
use chassis::{Secret, service_token};
use proto::payments::payments_service_client::PaymentsServiceClient;
use proto::payments::{
    CapturePaymentRequest, GetPaymentRequest, Money, QuoteFeeRequest, RefundPaymentRequest,
    VoidPaymentRequest,
};
use serde_json::json;
use strangler::{Epoch, Peer as _, Reply, control};
use tests::checker::Ended;
use tests::load::Client;
use tests::{Binaries, MONOLITH, SERVICE, Shop, story, until};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::{v1, v1alpha};
use tonic_types::StatusExt;

use crate::orders::{order, place};
use crate::telemetry::{scrape, sum};

const SOON: Duration = Duration::from_secs(30);
const HOUR: Duration = Duration::from_secs(3600);

type Payments = PaymentsServiceClient<Channel>;

async fn connect(shop: &Shop<'_>) -> Result<Channel> {
    let address = format!("http://127.0.0.1:{}", shop.ports.grpc.number());
    Ok(Channel::from_shared(address)?.connect().await?)
}

/// A request of tenant `acme` with this bearer token.
fn with_token<T>(message: T, token: Option<&str>) -> Result<Request<T>> {
    let mut request = Request::new(message);
    service_token::set_tenant(&mut request, "acme")?;
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
    }
    Ok(request)
}

/// A request of tenant `acme` from the monolith.
fn from_monolith<T>(shop: &Shop<'_>, message: T) -> Result<Request<T>> {
    with_token(message, Some(&shop.issuer().issue_service("monolith", SERVICE, HOUR)?))
}

fn get(payment: &str) -> GetPaymentRequest {
    GetPaymentRequest { payment_id: payment.to_owned() }
}

fn code<T: std::fmt::Debug>(answer: Result<T, Status>) -> Code {
    answer.err().map_or(Code::Ok, |status| status.code())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_and_reflection_answer() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        shop.migrate(&[]).await?;
        shop.start_provider(&[]).await?;
        shop.start_service("payments-service", "all").await?;
        let channel = connect(&shop).await?;

        for service in ["", "payments.v1.PaymentsService"] {
            // It follows readiness, a moment later.
            until(&format!("service {service:?} to serve"), SOON, async || {
                let request = HealthCheckRequest { service: service.to_owned() };
                let answer = HealthClient::new(channel.clone()).check(request).await?.into_inner();
                Ok((answer.status() == ServingStatus::Serving).then_some(()))
            })
            .await?;
        }
        for services in [reflect_v1(channel.clone()).await?, reflect_v1alpha(channel).await?] {
            for name in ["payments.v1.PaymentsService", "grpc.health.v1.Health"] {
                assert!(services.iter().any(|known| known == name), "{name} is not among {services:?}");
            }
        }
        Ok(())
    })
    .await;
}

async fn reflect_v1(channel: Channel) -> Result<Vec<String>> {
    use v1::server_reflection_request::MessageRequest;
    use v1::server_reflection_response::MessageResponse;
    let ask = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel);
    let mut answers = client.server_reflection_info(futures::stream::iter([ask])).await?.into_inner();
    match answers.message().await?.context("no answer")?.message_response {
        Some(MessageResponse::ListServicesResponse(list)) => {
            Ok(list.service.into_iter().map(|it| it.name).collect())
        }
        other => anyhow::bail!("no list of services: {other:?}"),
    }
}

async fn reflect_v1alpha(channel: Channel) -> Result<Vec<String>> {
    use v1alpha::server_reflection_request::MessageRequest;
    use v1alpha::server_reflection_response::MessageResponse;
    let ask = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let mut answers = client.server_reflection_info(futures::stream::iter([ask])).await?.into_inner();
    match answers.message().await?.context("no answer")?.message_response {
        Some(MessageResponse::ListServicesResponse(list)) => {
            Ok(list.service.into_iter().map(|it| it.name).collect())
        }
        other => anyhow::bail!("no list of services: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_or_foreign_token_is_refused() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        shop.migrate(&[]).await?;
        shop.start_provider(&[]).await?;
        shop.start_service("payments-service", "all").await?;
        let mut payments = Payments::new(connect(&shop).await?);
        let unknown = get(&proto::PaymentId::new().to_string());

        let stranger = Issuer::new("banyan", &Secret::new("another key of thirty-two bytes."));
        let tokens = [
            ("none", None),
            ("signed with another key", Some(stranger.issue_service("monolith", SERVICE, HOUR)?)),
            ("for another audience", Some(shop.issuer().issue_service("monolith", MONOLITH, HOUR)?)),
            ("a user's", Some(shop.issuer().issue("ada", "acme", &[Role::Merchant], SERVICE, HOUR)?)),
            ("no token at all", Some("x.y.z".to_owned())),
        ];
        for (what, token) in tokens {
            let refused = payments.get_payment(with_token(unknown.clone(), token.as_deref())?).await;
            assert_eq!(code(refused), Code::Unauthenticated, "token: {what}");
        }
        let admitted = payments.get_payment(from_monolith(&shop, unknown)?).await;
        assert_eq!(code(admitted), Code::NotFound, "the monolith gets in");
        Ok(())
    })
    .await;
}

/// Places an order that is born at the target, and waits until its payment has a status.
pub(crate) async fn born(client: &Client, key: &str, capture: &str, status: &str) -> Result<String> {
    let body = order(client, "pm_card_visa", capture).await?;
    let payment = place(client, key, &body, Ended::Paid).await?.payment;
    until(&format!("the payment to be {status}"), SOON, async || {
        let answer = client.get(&format!("/v1/payments/{payment}")).await?;
        ensure!(answer.text("status") == status, "{} {}", answer.status, answer.body);
        Ok(Some(()))
    })
    .await?;
    Ok(payment)
}

fn refund(payment: &str, amount_minor: Option<i64>, key: &str) -> RefundPaymentRequest {
    let (payment_id, idempotency_key) = (payment.to_owned(), key.to_owned());
    RefundPaymentRequest { payment_id, amount_minor, idempotency_key, reason: None, currency: None }
}

/// Calls a payment that was born at the service back at the epoch of its birth: it stays there, and the process shows that it was asked.
async fn stale_and_counted(shop: &Shop<'_>, service: &Listening, payment: &str) -> Result<()> {
    let counted = async || sum(&scrape(service).await?, "strangler_control_stale_total", "");
    let before = counted().await?;
    let bearer = service_token::Bearer::new(shop.issuer(), "monolith", SERVICE);
    let controller = control::Client::new(connect(shop).await?, bearer);
    let replies = controller.recall(&[(payment.to_owned(), Epoch::BIRTH)]).await;
    let replies = replies.map_err(anyhow::Error::from_boxed)?;
    assert_eq!(replies, [(payment.to_owned(), Reply::Stale)]);
    assert_eq!(counted().await?, before + 1.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_error_has_its_code() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        // Each call to the provider takes this long, so that a short deadline passes before its answer.
        shop.migrate(&["acme"]).await?;
        shop.start_provider(&[("PROVIDER_LATENCY", "300ms")]).await?;
        shop.start_monolith("monolith", "all").await?;
        let service = shop.start_service("payments-service", "all").await?;
        let (client, operator) = (shop.client("acme")?, shop.operator()?);
        let at_source = born(&client, "source", "manual", "authorized").await?;
        operator.follow().await?;
        operator.ramp(100).await?;
        let captured = born(&client, "captured", "automatic", "captured").await?;
        stale_and_counted(&shop, &service, &captured).await?;
        let mut payments = Payments::new(connect(&shop).await?);

        let answer = payments.get_payment(from_monolith(&shop, get("42"))?).await.expect_err("no id");
        assert_eq!(answer.code(), Code::InvalidArgument);
        let fields = answer.get_details_bad_request().context("no field violations")?.field_violations;
        assert_eq!(fields.first().map(|violation| violation.field.as_str()), Some("payment_id"));
        let fee = QuoteFeeRequest { amount: Some(Money { minor: -1, currency: "eur".into() }) };
        assert_eq!(code(payments.quote_fee(from_monolith(&shop, fee)?).await), Code::InvalidArgument);

        let mut foreign = from_monolith(&shop, get(&captured))?;
        service_token::set_tenant(&mut foreign, "globex")?;
        assert_eq!(code(payments.get_payment(foreign).await), Code::NotFound, "another tenant's");

        let void =
            VoidPaymentRequest { payment_id: captured.clone(), idempotency_key: "v".into(), reason: None };
        let answer = payments.void_payment(from_monolith(&shop, void)?).await.expect_err("it is captured");
        assert_eq!(answer.code(), Code::FailedPrecondition, "{answer:?}");
        let over =
            payments.refund_payment(from_monolith(&shop, refund(&captured, Some(99_999_999), "o"))?).await;
        assert_eq!(code(over), Code::FailedPrecondition, "more than was captured");
        let elsewhere = CapturePaymentRequest {
            payment_id: at_source.clone(),
            amount_minor: None,
            idempotency_key: "c".into(),
            reason: None,
            currency: None,
        };
        let answer =
            payments.capture_payment(from_monolith(&shop, elsewhere)?).await.expect_err("not its own");
        assert_eq!(answer.code(), Code::FailedPrecondition);
        assert_eq!(answer.get_details_error_info().map(|info| info.reason).as_deref(), Some("NOT_OWNER"));

        // The deadline passes; the refund goes on, and asking again under its key tells how it ended.
        let mut hasty = from_monolith(&shop, refund(&captured, Some(100), "hasty"))?;
        hasty.set_timeout(Duration::from_millis(100));
        assert_eq!(code(payments.refund_payment(hasty).await), Code::DeadlineExceeded);
        let refunded = until("the refund to be answered", SOON, async || {
            let again = from_monolith(&shop, refund(&captured, Some(100), "hasty"))?;
            Ok(payments.clone().refund_payment(again).await?.into_inner().payment)
        });
        assert_eq!(refunded.await?.refunded_minor, 100);
        let other =
            payments.refund_payment(from_monolith(&shop, refund(&captured, Some(200), "hasty"))?).await;
        let reused = other.expect_err("the key belongs to another request");
        assert_eq!(reused.get_details_error_info().map(|info| info.reason).as_deref(), Some("KEY_REUSED"));

        let done = client.post(&format!("/v1/payments/{at_source}/capture"), "end", &json!({})).await?;
        ensure!(done.status == 200, "{} {}", done.status, done.body);
        shop.settle(SOON).await
    })
    .await;
}
