//! The HTTP edge: what stands around every router, and serving it until the shutdown.

use std::any::Any;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, Uri};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

use crate::card;
use crate::problem::Problem;

/// The largest body that a route takes: 64 KiB.
pub const BODY_MAX: usize = 64 * 1024;

/// Puts the edge around a finished router: bodies are at most [`BODY_MAX`], unknown routes, wrong
/// methods and panics answer with a problem, and so does what looks like a card number ([`card`]) in the path, the query or a
/// header that is read. Bodies are looked at behind [`guard`](crate::token::guard): a route outside it, such as one that keeps
/// signed bytes as they are, sees them unchecked. Routes added later stand outside.
pub fn edge(router: Router) -> Router {
    router
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(from_fn(card::http::head))
        .layer(CatchPanicLayer::custom(panicked))
}

/// Serves until the token is cancelled, then finishes the requests in flight. Their number and time are
/// bounded by the caller's grace, see [`crate::Shutdown::run`].
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    axum::serve(listener, router).with_graceful_shutdown(async move { shutdown.cancelled().await }).await
}

async fn unknown_route(uri: Uri) -> Problem {
    Problem::not_found(format!("there is no route {}", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    Problem::method_not_allowed(format!("{} does not answer to {method}", uri.path()))
}

fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    tracing::error!(panic = text, "a request handler panicked");
    Problem::internal().into_response()
}
