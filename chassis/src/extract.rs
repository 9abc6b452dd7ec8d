//! Extractors that answer with problems: [`Json`], [`Path`], [`IdempotencyKey`], and [`Idempotent`], a
//! JSON body together with its key and fingerprint.

use axum::body::Bytes;
use axum::extract::path::ErrorKind;
use axum::extract::rejection::{BytesRejection, FailedToBufferBody, JsonRejection, PathRejection};
use axum::extract::{FromRequest, FromRequestParts, OriginalUri, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use serde::de::DeserializeOwned;

use crate::fingerprint::fingerprint;
use crate::problem::Problem;
use crate::server::BODY_MAX;

/// The header that names a request, so that repeating it is safe.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The longest `Idempotency-Key`, in bytes.
pub const KEY_MAX: usize = 255;

/// A JSON body. Broken JSON and wrong types are 400, a wrong content type 415, too much 413.
#[derive(Debug, Clone, Copy)]
pub struct Json<T>(pub T);

/// Path parameters. One that does not parse is 404, for nothing has that address.
#[derive(Debug, Clone, Copy)]
pub struct Path<T>(pub T);

/// The raw body, with the same limits as [`Json`].
#[derive(Debug, Clone)]
pub struct Body(pub Bytes);

/// The client's `Idempotency-Key`: 1 to 255 visible ASCII characters. Missing or malformed is 400.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(pub String);

/// A JSON body that may be sent again: under the same key it must have the same fingerprint.
#[derive(Debug, Clone)]
pub struct Idempotent<T> {
    /// The client's key.
    pub key: IdempotencyKey,
    /// The fingerprint of method, path and body bytes, see [`fingerprint`].
    pub fingerprint: String,
    /// The body.
    pub body: T,
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        axum::Json::from_request(request, state).await.map(|json| Self(json.0)).map_err(json_problem)
    }
}

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        Bytes::from_request(request, state).await.map(Self).map_err(bytes_problem)
    }
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        axum::extract::Path::from_request_parts(parts, state)
            .await
            .map(|path| Self(path.0))
            .map_err(path_problem)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let wrong =
            || Problem::malformed("Idempotency-Key must be given once, as 1 to 255 visible ASCII characters");
        let mut values = parts.headers.get_all(IDEMPOTENCY_KEY).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return Err(wrong()) };
        let visible = value.as_bytes().iter().all(u8::is_ascii_graphic);
        if !visible || !(1..=KEY_MAX).contains(&value.len()) {
            return Err(wrong());
        }
        value.to_str().map(|key| Self(key.to_owned())).map_err(|_| wrong())
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Idempotent<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let key = IdempotencyKey::from_request_parts(&mut parts, state).await?;
        if !is_json(&parts.headers) {
            return Err(not_json());
        }
        let Ok(OriginalUri(uri)) = OriginalUri::from_request_parts(&mut parts, state).await;
        let method = parts.method.clone();
        let Body(bytes) = Body::from_request(Request::from_parts(parts, body), state).await?;
        let fingerprint = fingerprint(method.as_str(), uri.path(), &bytes);
        let axum::Json(body) = axum::Json::from_bytes(&bytes).map_err(json_problem)?;
        Ok(Self { key, fingerprint, body })
    }
}

fn json_problem(rejection: JsonRejection) -> Problem {
    match rejection {
        JsonRejection::JsonDataError(error) => Problem::malformed(error.body_text()),
        JsonRejection::JsonSyntaxError(error) => Problem::malformed(error.body_text()),
        JsonRejection::MissingJsonContentType(_) => not_json(),
        JsonRejection::BytesRejection(error) => bytes_problem(error),
        other => Problem::malformed(other.body_text()),
    }
}

fn bytes_problem(rejection: BytesRejection) -> Problem {
    match rejection {
        BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => {
            Problem::too_large(BODY_MAX)
        }
        other => Problem::malformed(other.body_text()),
    }
}

fn path_problem(rejection: PathRejection) -> Problem {
    let PathRejection::FailedToDeserializePathParams(error) = rejection else { return Problem::internal() };
    match error.kind() {
        // A route without the parameters that its handler asks for: a slip of ours.
        ErrorKind::WrongNumberOfParameters { .. } | ErrorKind::UnsupportedType { .. } => Problem::internal(),
        ErrorKind::InvalidUtf8InPathParam { .. } => Problem::malformed("the path is not UTF-8"),
        _ => Problem::not_found("nothing has this address"),
    }
}

fn not_json() -> Problem {
    Problem::unsupported_media_type("the body must be sent with Content-Type: application/json")
}

/// `application/json`, with or without parameters, or any `application/..+json`, as axum has it.
fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::{get, post};
    use serde::Deserialize;
    use tower::ServiceExt as _;

    use super::*;

    #[derive(Deserialize)]
    struct Order {
        quantity: u32,
    }

    fn router() -> Router {
        crate::server::edge(
            Router::new()
                .route("/json", post(|Json(order): Json<Order>| async move { order.quantity.to_string() }))
                .route(
                    "/order",
                    post(|it: Idempotent<Order>| async move { format!("{} {}", it.key.0, it.body.quantity) }),
                )
                .route("/orders/{id}", get(|Path(id): Path<u32>| async move { id.to_string() }))
                .route("/panic", get(panics)),
        )
    }

    async fn panics() -> String {
        panic!("on purpose")
    }

    async fn send(request: axum::http::request::Builder, body: impl Into<axum::body::Body>) -> (u16, String) {
        let response = router().oneshot(request.body(body.into()).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        match serde_json::from_str::<serde_json::Value>(&text) {
            Ok(problem) if problem.is_object() => {
                let kind = problem["type"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
                (status, kind)
            }
            _ => (status, text),
        }
    }

    fn post_json(path: &str) -> axum::http::request::Builder {
        Request::post(path).header("content-type", "application/json")
    }

    #[tokio::test]
    async fn bad_bodies_are_problems() {
        for path in ["/json", "/order"] {
            let request = || post_json(path).header(IDEMPOTENCY_KEY, "k-1");
            assert_eq!(send(request(), "{").await, (400, "malformed".into()));
            assert_eq!(send(request(), r#"{"quantity":"two"}"#).await, (400, "malformed".into()));
            assert_eq!(send(request(), vec![b' '; BODY_MAX + 1]).await, (413, "body-too-large".into()));
            let form =
                Request::post(path).header(IDEMPOTENCY_KEY, "k-1").header("content-type", "text/plain");
            assert_eq!(send(form, "{}").await, (415, "unsupported-media-type".into()));
        }
        assert_eq!(send(post_json("/json"), r#"{"quantity":2}"#).await, (200, "2".into()));
    }

    #[tokio::test]
    async fn an_idempotency_key_is_needed_once_visible_and_short() {
        let body = r#"{"quantity":2}"#;
        let request = || post_json("/order");
        assert_eq!(send(request().header(IDEMPOTENCY_KEY, "k-1"), body).await, (200, "k-1 2".into()));
        assert_eq!(send(request(), body).await, (400, "malformed".into()));
        for key in ["", "two words", "k\u{e9}", &"k".repeat(KEY_MAX + 1)] {
            assert_eq!(
                send(request().header(IDEMPOTENCY_KEY, key), body).await,
                (400, "malformed".into()),
                "{key}"
            );
        }
        let twice = request().header(IDEMPOTENCY_KEY, "a").header(IDEMPOTENCY_KEY, "b");
        assert_eq!(send(twice, body).await, (400, "malformed".into()));
    }

    #[tokio::test]
    async fn unknown_routes_methods_ids_and_panics_are_problems() {
        assert_eq!(send(Request::get("/nowhere"), "").await, (404, "not-found".into()));
        assert_eq!(send(Request::delete("/json"), "").await, (405, "method-not-allowed".into()));
        assert_eq!(send(Request::get("/orders/seven"), "").await, (404, "not-found".into()));
        assert_eq!(send(Request::get("/orders/7"), "").await, (StatusCode::OK.as_u16(), "7".into()));
        assert_eq!(send(Request::get("/panic"), "").await, (500, "internal".into()));
    }
}
