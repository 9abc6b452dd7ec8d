//! `GET /v1/payments`, `GET /v1/payments/{id}`, `POST /v1/payments/{id}/capture|void|refunds`.

mod at_least;
mod body;

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chassis::problem::FieldError;
use chassis::{Caller, Idempotent, Page, Path, Problem, Role, fault};
use payments::{Actor, Capture, Desk, Epoch, Error, IdempotencyKey, Payment, Refund, Refusal, Tenant, Void};
use proto::{Currency, PaymentId};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use self::at_least::AtLeast;
use self::body::{Amount, CommandAnswers, PaymentBody, PaymentPage, Release};

/// When a client may ask again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

const READERS: &[Role] = &[Role::Customer, Role::Merchant];
const WRITERS: &[Role] = &[Role::Merchant];

type Payments = Arc<dyn Desk>;

/// The routes of payments, without their token check.
pub(super) fn router(payments: Payments) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(list_payments))
        .routes(routes!(get_payment))
        .routes(routes!(capture_payment))
        .routes(routes!(void_payment))
        .routes(routes!(refund_payment))
        .with_state(payments)
}

/// Lists the tenant's payments, newest first. A page may be a moment behind what `GET /v1/payments/{id}` says.
#[utoipa::path(
    get, path = "/v1/payments", tag = "payments", security(("token" = [])),
    params(
        ("limit" = Option<u16>, Query, description = "entries of a page, 1 to 200; default 50", minimum = 1, maximum = 200),
        ("after" = Option<Uuid>, Query, description = "`next` of the page before"),
    ),
    responses(
        (status = 200, body = PaymentPage),
        (status = 400, description = "limit or after can't be read", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "no valid token", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "needs the role customer or merchant", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "try again", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn list_payments(
    State(payments): State<Payments>,
    caller: Caller,
    page: Page<PaymentId>,
) -> Result<Json<PaymentPage>, Problem> {
    caller.require(READERS)?;
    let part = payments::Page { size: page.limit, after: page.after };
    let found = payments.list(&tenant(&caller)?, part).await.map_err(problem)?;
    let next = page.next(&found, |payment| payment.id.uuid());
    Ok(Json(PaymentPage { payments: found.into_iter().map(PaymentBody::from).collect(), next }))
}

/// Reads a payment. While payments move to another home a copy may answer; never one older than what this process has shown of the
/// payment in the last 10 seconds, nor than `X-Min-Version`.
#[utoipa::path(
    get, path = "/v1/payments/{id}", tag = "payments", security(("token" = [])),
    params(
        ("id" = Uuid, Path),
        ("X-Min-Version" = Option<i64>, Header, description = "the `version` that the client has seen already", minimum = 0),
    ),
    responses(
        (status = 200, body = PaymentBody),
        (status = 400, description = "X-Min-Version can't be read", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "no valid token", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "needs the role customer or merchant", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "no such payment, or another tenant's", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "try again", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn get_payment(
    State(payments): State<Payments>,
    caller: Caller,
    Path(id): Path<Uuid>,
    AtLeast(version): AtLeast,
) -> Result<Json<PaymentBody>, Problem> {
    caller.require(READERS)?;
    let found = payments.find_copy(&tenant(&caller)?, PaymentId::from_uuid(id), version).await;
    Ok(Json(found.map_err(problem)?.into()))
}

/// Captures an authorized payment, in whole or in part; what is not captured is released.
#[utoipa::path(
    post, path = "/v1/payments/{id}/capture", tag = "payments", security(("token" = [])), request_body = Amount,
    params(
        ("id" = Uuid, Path),
        ("Idempotency-Key" = String, Header, description = "1 to 255 visible ASCII characters, new for each capture"),
    ),
    responses(CommandAnswers)
)]
async fn capture_payment(
    State(payments): State<Payments>,
    caller: Caller,
    Path(id): Path<Uuid>,
    request: Idempotent<Amount>,
) -> Result<Response, Problem> {
    caller.require(WRITERS)?;
    let currency = request.body.currency()?;
    let capture = Capture {
        tenant: tenant(&caller)?,
        payment: PaymentId::from_uuid(id),
        amount_minor: request.body.minor()?,
        key: key(&request)?,
        by: actor(&caller)?,
        reason: request.body.reason,
    };
    in_currency(&payments, &capture.tenant, capture.payment, currency).await?;
    // The epoch is the seam's to find out.
    answer(payments.capture(&capture, Epoch::UNKNOWN).await)
}

/// Releases an authorized payment. The body may be `{}`.
#[utoipa::path(
    post, path = "/v1/payments/{id}/void", tag = "payments", security(("token" = [])), request_body = Release,
    params(
        ("id" = Uuid, Path),
        ("Idempotency-Key" = String, Header, description = "1 to 255 visible ASCII characters, new for each void"),
    ),
    responses(CommandAnswers)
)]
async fn void_payment(
    State(payments): State<Payments>,
    caller: Caller,
    Path(id): Path<Uuid>,
    request: Idempotent<Release>,
) -> Result<Response, Problem> {
    caller.require(WRITERS)?;
    let void = Void {
        tenant: tenant(&caller)?,
        payment: PaymentId::from_uuid(id),
        key: key(&request)?,
        by: actor(&caller)?,
        reason: request.body.reason,
    };
    answer(payments.void(&void, Epoch::UNKNOWN).await)
}

/// Returns captured money, in whole or in part.
#[utoipa::path(
    post, path = "/v1/payments/{id}/refunds", tag = "payments", security(("token" = [])), request_body = Amount,
    params(
        ("id" = Uuid, Path),
        ("Idempotency-Key" = String, Header, description = "1 to 255 visible ASCII characters, new for each refund"),
    ),
    responses(CommandAnswers)
)]
async fn refund_payment(
    State(payments): State<Payments>,
    caller: Caller,
    Path(id): Path<Uuid>,
    request: Idempotent<Amount>,
) -> Result<Response, Problem> {
    caller.require(WRITERS)?;
    let currency = request.body.currency()?;
    let refund = Refund {
        tenant: tenant(&caller)?,
        payment: PaymentId::from_uuid(id),
        amount_minor: request.body.minor()?,
        key: key(&request)?,
        by: actor(&caller)?,
        reason: request.body.reason,
    };
    in_currency(&payments, &refund.tenant, refund.payment, currency).await?;
    answer(payments.refund(&refund, Epoch::UNKNOWN).await)
}

/// Refuses a currency that is not the payment's. A payment never changes its own, so it may be read before the command.
async fn in_currency(
    payments: &Payments,
    tenant: &Tenant,
    payment: PaymentId,
    given: Option<Currency>,
) -> Result<(), Problem> {
    let Some(given) = given else { return Ok(()) };
    let currency = payments.find(tenant, payment).await.map_err(problem)?.amount.currency;
    if given == currency {
        return Ok(());
    }
    let detail = format!("the payment is in {currency}, not in {given}");
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    Err(Problem::new(status, "currency-mismatch", "The payment is in another currency", detail))
}

pub(super) fn tenant(caller: &Caller) -> Result<Tenant, Problem> {
    caller.tenant.parse().map_err(|_| Problem::unauthenticated("the token names no tenant that can be"))
}

/// Who asks, as the audit names them.
fn actor(caller: &Caller) -> Result<Actor, Problem> {
    let unfit = || Problem::unauthenticated("the token's subject can't be named in the audit");
    caller.subject.parse().map_err(|_| unfit())
}

fn key<T>(request: &Idempotent<T>) -> Result<IdempotencyKey, Problem> {
    request.key.0.parse().map_err(problem)
}

fn answer(done: Result<Payment, Error>) -> Result<Response, Problem> {
    match done {
        Ok(payment) => Ok(Json(PaymentBody::from(payment)).into_response()),
        Err(Error::OutcomePending(payment)) => {
            Ok((StatusCode::ACCEPTED, Json(PaymentBody::from(*payment))).into_response())
        }
        Err(error) => Err(problem(error)),
    }
}

pub(super) fn problem(error: Error) -> Problem {
    match error {
        Error::NotFound => Problem::not_found("there is no such payment"),
        Error::Refused(refusal) => {
            let kind = match refusal {
                Refusal::AmountTooLarge { .. } | Refusal::Money(_) => "amount-too-large",
                Refusal::IllegalTransition { .. }
                | Refusal::AmountNotAllowed { .. }
                | Refusal::Provider { .. }
                | Refusal::WrongOutcome { .. }
                | Refusal::EmptyAdjustment => "payment-refused",
            };
            Problem::new(StatusCode::CONFLICT, kind, "The payment does not allow this", refusal.to_string())
        }
        Error::Invalid(violations) => {
            Problem::validation(violations.into_iter().map(|it| FieldError {
                code: it.code,
                ..FieldError::new(format!("/{}", it.field), it.reason)
            }))
        }
        Error::InFlight => Problem::in_flight(RETRY_AFTER),
        Error::KeyReused => Problem::key_reused(),
        Error::NotOwner | Error::Busy(_) | Error::Behind { .. } | Error::Parked => {
            Problem::unavailable("the payment is busy; repeat the same request", RETRY_AFTER)
        }
        Error::Unavailable(_) => {
            tracing::warn!(%error, "payments could not serve a request");
            Problem::unavailable("payments can't answer now; repeat the same request", RETRY_AFTER)
        }
        error => fault::problem(&error),
    }
}
