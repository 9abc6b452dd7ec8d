//! Requests with a card number are refused before anything of them is stored or logged.

use std::borrow::Cow;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::Response;
use futures::StreamExt as _;
use percent_encoding::percent_decode;

use super::{is_in, unescaped};
use crate::extract::IDEMPOTENCY_KEY;
use crate::problem::Problem;
use crate::server::BODY_MAX;

/// The headers that a route reads. Others are not looked at: proxies put ids of theirs there that may look like anything.
const READ: [&str; 5] =
    [IDEMPOTENCY_KEY, "authorization", "content-type", "stripe-signature", "x-min-version"];

/// 422: something in the request looks like a card number.
pub(crate) fn refused(place: &'static str) -> Problem {
    tracing::info!(place, "a request was refused: something in it looks like a card number");
    let detail = format!(
        "something in the {place} looks like a card number; send the provider's token for the card, and \
         give an id of 13 digits or more a letter"
    );
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "card-number", "Card numbers are not taken here", detail)
}

/// Looks at what stands before the body: method, path, query and the headers that are read.
pub(crate) async fn head(request: Request, next: Next) -> Result<Response, Problem> {
    match in_head(request.method(), request.uri(), request.headers()) {
        Some(place) => Err(refused(place)),
        None => Ok(next.run(request).await),
    }
}

/// Looks at the body, which is at most [`BODY_MAX`] long.
pub(crate) async fn body(request: Request, next: Next) -> Result<Response, Problem> {
    if request.body().is_end_stream() {
        return Ok(next.run(request).await);
    }
    let (parts, body) = request.into_parts();
    let Some(bytes) = read(body, BODY_MAX).await else { return Err(Problem::too_large(BODY_MAX)) };
    if is_in(&bytes) || matches!(unescaped(&bytes), Cow::Owned(plain) if is_in(&plain)) {
        return Err(refused("body"));
    }
    Ok(next.run(Request::from_parts(parts, Body::from(bytes))).await)
}

/// All of a body. `None` when it is longer than the bound, or broke off: then nobody waits for the answer.
pub(super) async fn read(body: Body, bytes_max: usize) -> Option<Bytes> {
    let mut stream = body.into_data_stream();
    let mut whole: Vec<u8> = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.ok().filter(|chunk| whole.len() + chunk.len() <= bytes_max)?;
        whole.extend_from_slice(&chunk);
    }
    Some(whole.into())
}

fn in_head(method: &Method, uri: &Uri, headers: &HeaderMap) -> Option<&'static str> {
    if is_in(method.as_str().as_bytes()) || is_in(&decoded(uri.path())) {
        return Some("path");
    }
    // In a query a plus is a space.
    if uri.query().is_some_and(|query| is_in(&decoded(&query.replace('+', " ")))) {
        return Some("query");
    }
    let mut read = READ.into_iter().flat_map(|name| headers.get_all(name));
    read.any(|value| is_in(value.as_bytes())).then_some("headers")
}

pub(crate) fn decoded(text: &str) -> Cow<'_, [u8]> {
    percent_decode(text.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::Router;
    use axum::http::header::AUTHORIZATION;
    use axum::routing::{any, post};
    use tower::ServiceExt as _;

    use super::*;
    use crate::setting::Secret;
    use crate::token::{Issuer, Role, Verifier, guard};

    const CARD: &str = "4111111111111111";

    fn key() -> Secret {
        Secret::new("a key of thirty-two bytes at least")
    }

    fn router() -> Router {
        let guarded = Router::new().route("/echo", any(async |body: Bytes| body));
        let open = Router::new().route("/signed", post(async |body: Bytes| body));
        crate::server::edge(guard(guarded, Verifier::new("banyan", "shop", &key())).merge(open))
    }

    async fn send(request: axum::http::request::Builder, body: impl Into<Body>) -> (u16, String) {
        let token = Issuer::new("banyan", &key());
        let token = token.issue("ada", "acme", &[Role::Merchant], "shop", Duration::from_secs(60)).unwrap();
        let request = request.header(AUTHORIZATION, format!("Bearer {token}")).body(body.into()).unwrap();
        let answer = router().oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let bytes = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_card_number_is_refused_wherever_it_stands_and_not_repeated() {
        let uris = [
            format!("/{CARD}"),
            "/echo/%34111111111111111".into(),
            format!("/echo?after={CARD}"),
            "/echo?q=4111+1111+1111+1111".into(),
            "/echo?q=4111%201111%2D1111-1111".into(),
        ];
        for uri in uris {
            let (status, body) = send(Request::get(&uri), "").await;
            assert!(status == 422 && body.contains("card-number") && !body.contains("1111"), "{uri} {body}");
        }
        for (name, value) in [(IDEMPOTENCY_KEY, CARD), ("content-type", "text/4111111111111111")] {
            assert_eq!(send(Request::post("/echo").header(name, value), "").await.0, 422, "{name}");
        }
        let method = Request::builder().method(CARD).uri("/echo");
        assert_eq!(send(method, "").await.0, 422);
        for body in [
            r#"{"amount_minor":4111111111111111}"#,
            r#"{"reason":"4111 1111 1111 1111"#,
            r#"{"reason":"\u0034111111111111111"}"#,
            "{\"reason\":\"\u{ff14}111111111111111\"}",
            r#"{"reason":"line\n4111111111111111"}"#,
            "\u{0}4111-1111-1111-1111",
        ] {
            let (status, answer) = send(Request::post("/echo"), body).await;
            assert!(
                status == 422 && answer.contains("card-number") && !answer.contains("1111"),
                "{body} {answer}"
            );
        }
    }

    #[tokio::test]
    async fn other_bodies_arrive_as_they_were_and_signed_ones_are_not_looked_at() {
        let chunks = |parts: Vec<String>| {
            Body::from_stream(futures::stream::iter(parts.into_iter().map(Ok::<_, std::io::Error>)))
        };
        let halves = |text: &str| chunks(vec![text[..5].into(), text[5..].into()]);
        assert_eq!(
            send(Request::post("/echo"), halves("411111111111111 1")).await,
            (200, "411111111111111 1".into())
        );
        assert_eq!(send(Request::post("/echo"), halves(CARD)).await.0, 422);
        assert_eq!(send(Request::post("/signed"), CARD).await, (200, CARD.into()));
        let fits = "x".repeat(BODY_MAX);
        assert_eq!(send(Request::post("/echo"), fits.clone()).await, (200, fits.clone()));
        assert_eq!(send(Request::post("/echo"), fits.clone() + "x").await.0, 413);
        assert_eq!(send(Request::post("/echo"), chunks(vec![fits, "x".into()])).await.0, 413);
    }
}
