//! The same for gRPC: a layer around a service, whatever its messages are.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{self, Poll};

use axum::body::Body;
use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use tonic::server::NamedService;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use tower_service::Service;

use super::http::{decoded, read};
use super::{is_in, message};

/// The reason of a refusal, in `google.rpc.ErrorInfo`.
pub const REASON: &str = "CARD_NUMBER";

/// Before each message of a gRPC stream: whether it is compressed, and its length, big endian.
const PREFIX: usize = 5;

/// A service of unary calls that refuses what looks like a card number with `INVALID_ARGUMENT` and [`REASON`], in the path, in
/// metadata that is read and in any field of a message. A body over the bound is refused with `OUT_OF_RANGE`, as tonic does it
/// with one message: tonic bounds each message and reads the first, so that a second one may not carry the first past the guard.
#[derive(Debug, Clone)]
pub struct Guard<S> {
    inner: S,
    rules: Arc<Rules>,
}

#[derive(Debug)]
struct Rules {
    domain: &'static str,
    metadata: &'static [&'static str],
    bytes_max: usize,
}

/// Marks an answer as a refusal of [`Guard`]'s: what the request called may be no method at all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refused;

impl<S> Guard<S> {
    /// Around a service. `domain` is that of its other reasons, `metadata` what it reads, `bytes_max` the longest message it
    /// takes.
    pub fn new(inner: S, domain: &'static str, metadata: &'static [&'static str], bytes_max: usize) -> Self {
        Self { inner, rules: Arc::new(Rules { domain, metadata, bytes_max }) }
    }
}

impl<S: NamedService> NamedService for Guard<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<tonic::body::Body>> for Guard<S>
where
    S: Service<Request<tonic::body::Body>, Response = Response<tonic::body::Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    type Response = S::Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<S::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let rules = self.rules.clone();
        // The one that is ready is used up; its clone waits for the next call.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            if is_in(&decoded(parts.uri.path())) || rules.in_metadata(&parts.headers) {
                return Ok(rules.refused("metadata"));
            }
            let Some(bytes) = read(Body::new(body), rules.bytes_max + PREFIX).await else {
                return Ok(rules.too_long());
            };
            if in_messages(&bytes) {
                return Ok(rules.refused("message"));
            }
            inner.call(Request::from_parts(parts, tonic::body::Body::new(Body::from(bytes)))).await
        })
    }
}

impl Rules {
    fn in_metadata(&self, headers: &HeaderMap) -> bool {
        self.metadata.iter().flat_map(|name| headers.get_all(*name)).any(|value| is_in(value.as_bytes()))
    }

    fn refused(&self, place: &'static str) -> Response<tonic::body::Body> {
        tracing::info!(place, "a call was refused: something in it looks like a card number");
        let text = format!(
            "something in the {place} looks like a card number; send the provider's token for the card"
        );
        let mut details = ErrorDetails::new();
        details.set_error_info(REASON, self.domain, [("place".to_owned(), place.to_owned())]);
        marked(Status::with_error_details(Code::InvalidArgument, text, details))
    }

    fn too_long(&self) -> Response<tonic::body::Body> {
        marked(Status::out_of_range(format!("a message may have at most {} bytes", self.bytes_max)))
    }
}

fn marked(status: Status) -> Response<tonic::body::Body> {
    let mut response = status.into_http();
    response.extensions_mut().insert(Refused);
    response
}

/// A compressed message is not read: no service of ours takes one.
fn in_messages(mut rest: &[u8]) -> bool {
    while let Some((prefix, after)) = rest.split_at_checked(PREFIX) {
        let length = <[u8; 4]>::try_from(&prefix[1..]).map_or(u32::MAX, u32::from_be_bytes);
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(after.len());
        if prefix[0] == 0 && message::has_card(&after[..length]) {
            return true;
        }
        rest = &after[length..];
    }
    false
}

#[cfg(test)]
mod tests {
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    /// A message with its prefix.
    fn frame(message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[0_u8][..], &length[..], message].concat()
    }

    /// How a guard refuses a body whose message may have 64 bytes; `None`: it lets it through.
    async fn refused(body: Vec<u8>) -> Option<Code> {
        let inner = service_fn(|_: Request<tonic::body::Body>| {
            std::future::ready(Ok::<_, Infallible>(Response::new(tonic::body::Body::empty())))
        });
        let request = Request::new(tonic::body::Body::new(Body::from(body)));
        let answer = Guard::new(inner, "tests", &[], 64).oneshot(request).await.unwrap();
        Status::from_header_map(answer.headers()).map(|status| status.code())
    }

    #[tokio::test]
    async fn nothing_gets_by_behind_a_second_message() {
        let card = frame(b"\x22\x104111111111111111");
        let long =
            |length: u8| frame(&[&[0x0a, length - 2][..], &vec![b'x'; usize::from(length) - 2]].concat());
        assert_eq!(refused(card.clone()).await, Some(Code::InvalidArgument));
        assert_eq!(refused([long(20), card.clone()].concat()).await, Some(Code::InvalidArgument));
        assert_eq!(refused([card, long(64)].concat()).await, Some(Code::OutOfRange));
        assert_eq!(refused(long(64)).await, None);
        assert_eq!(refused(long(65)).await, Some(Code::OutOfRange));
    }
}
