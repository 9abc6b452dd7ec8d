//! The API's routes: Stripe's paths, forms in, JSON out.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, OriginalUri, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use chassis::extract::KEY_MAX;
use chassis::fingerprint::fingerprint;
use chassis::server::BODY_MAX;
use chassis::{Secret, shield};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::call::{Call, Command};
use crate::failure::Failure;
use crate::form::Form;
use crate::provider::{Outcome, Provider};
use crate::rules::Reply;

/// How long a client that hears nothing is kept; its own timeout should be shorter.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// The most entries of a list.
const LIST_MAX: usize = 100;

/// What stands before every route.
#[derive(Clone)]
struct Edge {
    key: Secret,
    latency: Duration,
}

pub(crate) fn router(provider: Provider, key: Secret, latency: Duration) -> Router {
    Router::new()
        .route("/v1/payment_intents", post(create).get(list_intents))
        .route("/v1/payment_intents/{id}", get(intent))
        .route("/v1/payment_intents/{id}/confirm", post(confirm))
        .route("/v1/payment_intents/{id}/capture", post(capture))
        .route("/v1/payment_intents/{id}/cancel", post(cancel))
        .route("/v1/refunds", post(refund).get(list_refunds))
        .route("/v1/refunds/{id}", get(one_refund))
        .route_layer(from_fn_with_state(Edge { key, latency }, edge))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .with_state(provider)
}

async fn edge(State(edge): State<Edge>, request: Request, next: Next) -> Response {
    let sent = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if sent.and_then(|value| value.strip_prefix("Bearer ")) != Some(edge.key.expose()) {
        return Failure::unauthorized().into_response();
    }
    tokio::time::sleep(edge.latency).await;
    next.run(request).await
}

/// A POST before its command is read.
struct Post {
    key: Option<String>,
    fingerprint: String,
    form: Form,
}

type Body = Result<Bytes, BytesRejection>;

async fn create(
    State(provider): State<Provider>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(provider, Post::read(&uri, &headers, body), Command::create).await
}

async fn confirm(
    State(provider): State<Provider>,
    OriginalUri(uri): OriginalUri,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(provider, Post::read(&uri, &headers, body), |form| Command::confirm(id, form)).await
}

async fn capture(
    State(provider): State<Provider>,
    OriginalUri(uri): OriginalUri,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(provider, Post::read(&uri, &headers, body), |form| Command::capture(id, form)).await
}

async fn cancel(
    State(provider): State<Provider>,
    OriginalUri(uri): OriginalUri,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(provider, Post::read(&uri, &headers, body), |form| Command::cancel(id, form)).await
}

async fn refund(
    State(provider): State<Provider>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(provider, Post::read(&uri, &headers, body), Command::refund).await
}

async fn intent(State(provider): State<Provider>, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    provider.read(|book| book.intent(&id).map(|intent| Json(intent.object()))).await?
}

async fn one_refund(
    State(provider): State<Provider>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Failure> {
    provider.read(|book| book.refund(&id).map(|refund| Json(refund.object()))).await?
}

/// Which part of a list, newest first.
#[derive(Deserialize)]
struct Page {
    limit: Option<usize>,
    starting_after: Option<String>,
    payment_intent: Option<String>,
}

async fn list_intents(
    State(provider): State<Provider>,
    Query(page): Query<Page>,
) -> Result<Json<Value>, Failure> {
    let found = provider.read(|book| {
        let after = |id: &str| page.starting_after.as_deref().is_none_or(|last| id < last);
        page.cut(book.intents().filter(|intent| after(&intent.id)).map(crate::intent::Intent::object))
    });
    Ok(Json(found.await?))
}

async fn list_refunds(
    State(provider): State<Provider>,
    Query(page): Query<Page>,
) -> Result<Json<Value>, Failure> {
    let found = provider.read(|book| {
        let after = |id: &str| page.starting_after.as_deref().is_none_or(|last| id < last);
        let of = |intent: &str| page.payment_intent.as_deref().is_none_or(|wanted| intent == wanted);
        let refunds = book.refunds().filter(|refund| after(&refund.id) && of(&refund.payment_intent));
        page.cut(refunds.map(crate::refund::Refund::object))
    });
    Ok(Json(found.await?))
}

impl Page {
    /// Stripe's list: 10 entries unless the client says, and whether there are more.
    fn cut(&self, objects: impl Iterator<Item = Value>) -> Value {
        let limit = self.limit.unwrap_or(10).clamp(1, LIST_MAX);
        let mut data: Vec<Value> = objects.take(limit + 1).collect();
        let has_more = data.len() > limit;
        data.truncate(limit);
        json!({ "object": "list", "data": data, "has_more": has_more })
    }
}

impl Post {
    fn read(uri: &Uri, headers: &HeaderMap, body: Body) -> Result<Self, Failure> {
        let body = body.map_err(|_| Failure::too_large())?;
        let form = Form::parse(&body)?;
        let fingerprint = fingerprint("POST", uri.path(), &form.canonical());
        Ok(Self { key: idempotency_key(headers)?, fingerprint, form })
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| (1..=KEY_MAX).contains(&key.len()));
    let wrong =
        || Failure::param("parameter_invalid", "Idempotency-Key", "Must be 1 to 255 ASCII characters");
    key.map(|key| Some(key.to_owned())).ok_or_else(wrong)
}

async fn answer(
    provider: Provider,
    post: Result<Post, Failure>,
    command: impl FnOnce(&mut Form) -> Result<Command, Failure>,
) -> Response {
    let call = post.and_then(|mut post| {
        let command = command(&mut post.form)?;
        let metadata = post.form.metadata();
        post.form.finish()?;
        Ok(Call { key: post.key, fingerprint: post.fingerprint, metadata, command })
    });
    match call {
        Ok(call) => respond(provider, call).await,
        Err(failure) => failure.into_response(),
    }
}

/// The work goes on when the client leaves: that is what a provider does.
async fn respond(provider: Provider, call: Call) -> Response {
    let worker = provider.clone();
    match shield(&provider.tasks, async move { worker.handle(call).await }).await {
        Ok(Ok(Outcome::Answered(reply))) => reply.into_response(),
        Ok(Ok(Outcome::Replayed(reply))) => {
            let mut response = reply.into_response();
            response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
            response
        }
        Ok(Ok(Outcome::Silence)) => silence(&provider).await,
        Ok(Err(failure)) => failure.into_response(),
        Err(error) => {
            tracing::error!(%error, "a request was lost");
            Failure::api("The request was lost").into_response()
        }
    }
}

/// No answer until the client gives up, the process ends, or the bound is reached.
async fn silence(provider: &Provider) -> Response {
    tokio::select! {
        () = provider.shutdown.cancelled() => {}
        () = tokio::time::sleep(SILENCE_MAX) => {}
    }
    Failure::api("No answer").into_response()
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
