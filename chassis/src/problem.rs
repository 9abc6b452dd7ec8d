//! RFC 9457 problem details: the one shape of every HTTP error.

use std::borrow::Cow;
use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::card;

/// The stable beginning of every problem's `type`.
pub const TYPE_BASE: &str = "https://banyan.dev/problems/";

/// What went wrong, as `application/problem+json`.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Problem {
    /// Stable identifier of the kind of problem, on the wire with [`TYPE_BASE`] before it; programs decide
    /// by it.
    #[serde(rename = "type", serialize_with = "with_base")]
    #[schema(value_type = String, example = "https://banyan.dev/problems/validation")]
    pub kind: &'static str,
    /// The kind of problem in words.
    pub title: &'static str,
    /// The HTTP status code.
    #[serde(serialize_with = "status_code")]
    #[schema(value_type = u16, example = 422)]
    pub status: StatusCode,
    /// What went wrong this time and what to do about it.
    pub detail: Cow<'static, str>,
    /// The request this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The fields that are wrong, where the problem is one of fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    #[serde(skip)]
    headers: Option<Box<HeaderMap>>,
}

/// A field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// JSON pointer into the request's body: `/items/0/quantity`.
    pub pointer: String,
    /// What is wrong with it, for programs, where one field can be wrong in several ways; never changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "amount-zero")]
    pub code: Option<&'static str>,
    /// What is wrong with it, for people.
    pub detail: String,
}

impl FieldError {
    /// An error at a JSON pointer.
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), code: None, detail: detail.into() }
    }

    /// The same with a code.
    #[must_use]
    pub fn coded(self, code: &'static str) -> Self {
        Self { code: Some(code), ..self }
    }
}

type Detail = Cow<'static, str>;

impl Problem {
    /// A problem of a kind of your own: `slug` ends its `type` and must stay as it is for ever.
    pub fn new(
        status: StatusCode,
        slug: &'static str,
        title: &'static str,
        detail: impl Into<Detail>,
    ) -> Self {
        Self {
            kind: slug,
            title,
            status,
            detail: detail.into(),
            instance: None,
            errors: Vec::new(),
            headers: None,
        }
    }

    /// 400: the request can't be read: broken JSON, wrong types, a missing header.
    pub fn malformed(detail: impl Into<Detail>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", "The request can't be read", detail)
    }

    /// 401: no token, or one that does not count here.
    pub fn unauthenticated(detail: impl Into<Detail>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", "A valid bearer token is needed", detail)
            .header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    /// 403: the token counts, but its roles don't allow this.
    pub fn forbidden(detail: impl Into<Detail>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "The token does not allow this", detail)
    }

    /// 404: nothing there, or nothing of this tenant's.
    pub fn not_found(detail: impl Into<Detail>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
    }

    /// 405: the route has other methods.
    pub fn method_not_allowed(detail: impl Into<Detail>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Method not allowed", detail)
    }

    /// 409: the state of things forbids it now.
    pub fn conflict(detail: impl Into<Detail>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "The current state does not allow this", detail)
    }

    /// 409: the first request under the same `Idempotency-Key` has not ended.
    pub fn in_flight(retry_after: Duration) -> Self {
        let detail = "the first request with this Idempotency-Key is still running; repeat this one later";
        Self::new(
            StatusCode::CONFLICT,
            "idempotency-key-in-flight",
            "The same request is being handled",
            detail,
        )
        .retry_after(retry_after)
    }

    /// 413: the body is larger than `bytes_max`.
    pub fn too_large(bytes_max: usize) -> Self {
        let detail = format!("a body may have at most {bytes_max} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "The body is too large", detail)
    }

    /// 415: the body is not of the kind the route takes.
    pub fn unsupported_media_type(detail: impl Into<Detail>) -> Self {
        let title = "The body has the wrong content type";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", title, detail)
    }

    /// 422: readable, but fields break a rule.
    pub fn validation(errors: impl IntoIterator<Item = FieldError>) -> Self {
        let detail = "one or more fields are not acceptable; see errors";
        let title = "The request breaks a rule";
        let mut problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "validation", title, detail);
        problem.errors.extend(errors);
        problem
    }

    /// 422: the `Idempotency-Key` was used with another request.
    pub fn key_reused() -> Self {
        let detail =
            "this Idempotency-Key belongs to a request with another method, path or body; take a new key";
        let title = "The Idempotency-Key was used for another request";
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency-key-reused", title, detail)
    }

    /// 500: our fault. What happened goes to the log, never to the client.
    pub fn internal() -> Self {
        let detail = "the server failed; the request may be repeated with the same Idempotency-Key";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error", detail)
    }

    /// 503: not now; repeat the same request after the given time.
    pub fn unavailable(detail: impl Into<Detail>, retry_after: Duration) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Temporarily unavailable", detail)
            .retry_after(retry_after)
    }

    /// Adds the request this is about.
    #[must_use]
    pub fn about(mut self, instance: impl Into<String>) -> Self {
        self.instance = Some(instance.into());
        self
    }

    /// Adds a `Retry-After` in whole seconds, rounded up, at least one.
    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.header(RETRY_AFTER, HeaderValue::from(seconds.max(1)))
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.get_or_insert_default().insert(name, value);
        self
    }
}

impl IntoResponse for Problem {
    /// What looks like a card number is masked: some details quote the request.
    fn into_response(mut self) -> Response {
        if let Cow::Owned(masked) = card::mask(&self.detail) {
            self.detail = masked.into();
        }
        self.instance.iter_mut().for_each(mask);
        for error in &mut self.errors {
            mask(&mut error.pointer);
            mask(&mut error.detail);
        }
        let mut response = (self.status, axum::Json(&self)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.extend(self.headers.into_iter().flat_map(|headers| *headers));
        response
    }
}

fn mask(text: &mut String) {
    if let Cow::Owned(masked) = card::mask(text) {
        *text = masked;
    }
}

fn status_code<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

fn with_base<S: serde::Serializer>(kind: &&'static str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{TYPE_BASE}{kind}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn body(problem: Problem) -> (Response<()>, String) {
        let (parts, body) = problem.into_response().into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        (Response::from_parts(parts, ()), String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_validation_problem_points_at_the_field() {
        let wrong = FieldError::new("/items/0/quantity", "must be at least 1");
        let (response, body) = body(Problem::validation([wrong]).about("/v1/orders")).await;
        assert_eq!(response.status(), 422);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        assert_eq!(
            body,
            r#"{"type":"https://banyan.dev/problems/validation","title":"The request breaks a rule","status":422,"detail":"one or more fields are not acceptable; see errors","instance":"/v1/orders","errors":[{"pointer":"/items/0/quantity","detail":"must be at least 1"}]}"#
        );
    }

    #[tokio::test]
    async fn a_code_stands_beside_the_place() {
        let wrong = FieldError::new("/amount_minor", "must be positive").coded("amount-zero");
        let (_, body) = body(Problem::validation([wrong])).await;
        let errors =
            r#""errors":[{"pointer":"/amount_minor","code":"amount-zero","detail":"must be positive"}]}"#;
        assert!(body.ends_with(errors), "{body}");
    }

    #[tokio::test]
    async fn a_problem_repeats_no_card_number() {
        let wrong = FieldError::new("/4111111111111111", "is 4111 1111 1111 1111");
        let mut problem = Problem::validation([wrong]).about("/v1/4111111111111111");
        problem.detail = "invalid type: floating point `4111111111111111.0`".into();
        let (_, body) = body(problem).await;
        assert!(!body.contains("1111") && body.contains("**** **** **** ****"), "{body}");
    }

    #[tokio::test]
    async fn a_problem_that_passes_says_when_to_come_back() {
        let (response, _) = body(Problem::in_flight(Duration::from_millis(1_200))).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()[RETRY_AFTER]),
            (409, &HeaderValue::from(2))
        );
        let (response, _) = body(Problem::unavailable("the payments service is away", Duration::ZERO)).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()[RETRY_AFTER]),
            (503, &HeaderValue::from(1))
        );
        let (response, _) = body(Problem::unauthenticated("no token")).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()[WWW_AUTHENTICATE]),
            (401, &HeaderValue::from_static("Bearer"))
        );
    }
}
