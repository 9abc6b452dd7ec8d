//! The API's routes: Stripe's paths, forms in, JSON out.

mod edge;
mod get;
mod post;

use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing;
use axum::{Json, Router};
use chassis::Secret;
use chassis::server::BODY_MAX;

use crate::failure::Failure;
use crate::provider::Provider;
use crate::rules::Reply;
pub(crate) use edge::API_VERSION;
use edge::Edge;

pub(crate) fn router(provider: Provider, key: Secret, latency: Duration) -> Router {
    Router::new()
        .route("/v1/payment_intents", routing::post(post::create).get(get::intents))
        .route("/v1/payment_intents/search", routing::get(get::search))
        .route("/v1/payment_intents/{id}", routing::get(get::intent))
        .route("/v1/payment_intents/{id}/confirm", routing::post(post::confirm))
        .route("/v1/payment_intents/{id}/capture", routing::post(post::capture))
        .route("/v1/payment_intents/{id}/cancel", routing::post(post::cancel))
        .route("/v1/refunds", routing::post(post::refund).get(get::refunds))
        .route("/v1/refunds/{id}", routing::get(get::refund))
        .route("/v1/balance_transactions", routing::get(get::settlements))
        .route("/v1/balance_transactions/{id}", routing::get(get::settlement))
        .route_layer(from_fn_with_state(Edge { key, latency }, edge::pass))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .with_state(provider)
}

async fn unknown_route(method: Method, uri: Uri) -> Failure {
    Failure::route(StatusCode::NOT_FOUND, method.as_str(), uri.path())
}

async fn wrong_method(method: Method, uri: Uri) -> Failure {
    Failure::route(StatusCode::METHOD_NOT_ALLOWED, method.as_str(), uri.path())
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(self.body())).into_response()
    }
}
