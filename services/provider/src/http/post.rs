//! Requests that change something: forms under an idempotency key.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Path, Request, State};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use chassis::extract::KEY_MAX;
use chassis::fingerprint::fingerprint;
use chassis::shield;

use crate::call::{Call, Command};
use crate::clock::now_ms;
use crate::failure::Failure;
use crate::form::Form;
use crate::provider::{Outcome, Provider};

/// How long a client that hears nothing is kept; its own timeout should be shorter.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// A POST before its command is read.
pub(super) struct Post {
    key: Option<String>,
    fingerprint: String,
    form: Form,
}

pub(super) async fn create(State(provider): State<Provider>, post: Post) -> Response {
    post.answer(provider, Command::create).await
}

pub(super) async fn confirm(
    State(provider): State<Provider>,
    Path(id): Path<String>,
    post: Post,
) -> Response {
    post.answer(provider, |form| Command::confirm(id, form)).await
}

pub(super) async fn capture(
    State(provider): State<Provider>,
    Path(id): Path<String>,
    post: Post,
) -> Response {
    post.answer(provider, |form| Command::capture(id, form)).await
}

pub(super) async fn cancel(State(provider): State<Provider>, Path(id): Path<String>, post: Post) -> Response {
    post.answer(provider, |form| Command::cancel(id, form)).await
}

pub(super) async fn refund(State(provider): State<Provider>, post: Post) -> Response {
    post.answer(provider, Command::refund).await
}

impl FromRequest<Provider> for Post {
    type Rejection = Failure;

    /// What it says is in its body. A query would be a mistake of the client's, so nothing in one is taken.
    async fn from_request(request: Request, provider: &Provider) -> Result<Self, Failure> {
        let (uri, key) = (request.uri().clone(), idempotency_key(request.headers()));
        let body = Bytes::from_request(request, provider).await.map_err(|_| Failure::too_large())?;
        Form::parse(uri.query().unwrap_or_default().as_bytes())?.finish()?;
        let form = Form::parse(&body)?;
        let fingerprint = fingerprint("POST", uri.path(), &form.canonical());
        Ok(Self { key: key?, fingerprint, form })
    }
}

impl Post {
    async fn answer(
        self,
        provider: Provider,
        command: impl FnOnce(&mut Form) -> Result<Command, Failure>,
    ) -> Response {
        match self.call(command) {
            Ok(call) => respond(provider, call).await,
            Err(failure) => failure.into_response(),
        }
    }

    fn call(mut self, command: impl FnOnce(&mut Form) -> Result<Command, Failure>) -> Result<Call, Failure> {
        let command = command(&mut self.form)?;
        let metadata = self.form.metadata();
        self.form.finish()?;
        Ok(Call { key: self.key, fingerprint: self.fingerprint, since_ms: now_ms(), metadata, command })
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| (1..=KEY_MAX).contains(&key.len()));
    let wrong =
        || Failure::param("parameter_invalid", "Idempotency-Key", "Must be 1 to 255 ASCII characters");
    key.map(|key| Some(key.to_owned())).ok_or_else(wrong)
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
