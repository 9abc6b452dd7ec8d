//! `POST /webhooks/provider`. No token: whoever knows a webhook secret may send.

use std::time::Duration;

use axum::body::{Bytes, HttpBody as _};
use axum::extract::rejection::{BytesRejection, FailedToBufferBody};
use axum::extract::{DefaultBodyLimit, FromRequest as _, Request, State};
use axum::http::StatusCode;
use chassis::{Problem, fault};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::receive::signature;
use crate::{BODY_MAX, Error, Receipt, Receiver, Refusal};

/// How long a body may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// When a webhook may come again that had no room.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// The route. Nothing may stand before it that reads or changes the body: the bytes are what was signed.
pub fn router(receiver: Receiver) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(receive_webhook))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(receiver)
}

/// Takes an event of the payment provider.
///
/// The event is stored before it is answered, and acted on later. Sending it again is safe.
#[utoipa::path(
    post, path = "/webhooks/provider", tag = "webhooks",
    request_body(content = Object, description = "the provider's event", content_type = "application/json"),
    params(("Stripe-Signature" = String, Header, description = "t=SECONDS,v1=HEX over the raw body")),
    responses(
        (status = 200, description = "stored, now or before"),
        (status = 400, description = "not signed by the provider, too old, or not an event", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "another event with this id was taken before", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "the body is over 256 KiB", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "try again", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn receive_webhook(State(receiver): State<Receiver>, request: Request) -> Result<StatusCode, Problem> {
    let answer = receive(&receiver, request).await;
    receiver.answered(&answer);
    answer.map(|_| StatusCode::OK).map_err(problem)
}

/// Cheap checks first: a body is read only when it may be of the right size and somebody signed it.
async fn receive(receiver: &Receiver, request: Request) -> Result<Receipt, Error> {
    if request.body().size_hint().lower() > BODY_MAX as u64 {
        return Err(Refusal::TooLarge.into());
    }
    let signature = signature(request.headers())?;
    let body = tokio::time::timeout(BODY_TIMEOUT, Bytes::from_request(request, &()));
    let body = match body.await {
        Ok(Ok(body)) => body,
        Ok(Err(BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)))) => {
            return Err(Refusal::TooLarge.into());
        }
        Ok(Err(_)) | Err(_) => return Err(Refusal::CutOff.into()),
    };
    receiver.receive(&signature, &body).await
}

fn problem(error: Error) -> Problem {
    match error {
        Error::Refused(Refusal::TooLarge) => Problem::too_large(BODY_MAX),
        Error::Refused(refusal) => {
            tracing::warn!(code = refusal.code(), "a webhook was refused");
            let status = match refusal {
                Refusal::IdReused => StatusCode::CONFLICT,
                Refusal::Unsigned
                | Refusal::MalformedSignature
                | Refusal::SeveralTimestamps
                | Refusal::WrongSignature
                | Refusal::Stale
                | Refusal::FromTheFuture
                | Refusal::TooLarge
                | Refusal::CutOff
                | Refusal::NotJson
                | Refusal::NotAnEvent => StatusCode::BAD_REQUEST,
            };
            Problem::new(status, refusal.code(), "The webhook was not taken", refusal.to_string())
        }
        Error::Full => Problem::unavailable("too many notices are open; send it again", RETRY_AFTER),
        error => fault::problem(&error),
    }
}
