//! A tower layer around HTTP and gRPC servers: each request is timed, and continues its caller's trace.

use std::task::{self, Poll};
use std::time::Instant;

use axum::extract::MatchedPath;
use futures::future::BoxFuture;
use http::{Request, Response};
use opentelemetry::metrics::{Histogram, Meter};
use opentelemetry::trace::{
    FutureExt as _, SpanBuilder, SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tower_layer::Layer;
use tower_service::Service;

use super::traces;
use crate::card;
use crate::card::grpc::Refused;

/// Upper bounds of the buckets, in seconds.
const BUCKETS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// What a request is named by that has no route: never its own path, of which there is no end.
const UNKNOWN: &str = "unknown";

/// The layer. Made by [`super::Telemetry::http`] and [`super::Telemetry::grpc`].
#[derive(Debug, Clone)]
pub struct Requests {
    kind: Kind,
    duration: Histogram<f64>,
    tracer: Option<SdkTracer>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Http,
    Grpc,
}

impl Requests {
    pub(super) fn http(meter: &Meter, tracers: Option<&SdkTracerProvider>) -> Self {
        Self::new(Kind::Http, meter, "http.server.request.duration", tracers)
    }

    pub(super) fn grpc(meter: &Meter, tracers: Option<&SdkTracerProvider>) -> Self {
        Self::new(Kind::Grpc, meter, "rpc.server.call.duration", tracers)
    }

    fn new(kind: Kind, meter: &Meter, name: &'static str, tracers: Option<&SdkTracerProvider>) -> Self {
        let duration = meter.f64_histogram(name).with_unit("s").with_boundaries(BUCKETS.to_vec());
        let duration = duration.with_description("From a request's headers to its answer's.").build();
        Self { kind, duration, tracer: tracers.map(|tracers| tracers.tracer("requests")) }
    }

    /// The context that a request runs in: its caller's trace, in a span of ours if spans are made.
    fn context<B>(&self, request: &Request<B>, name: &str) -> Context {
        let caller = traces::caller(request.headers());
        let Some(tracer) = &self.tracer else { return caller };
        let builder = SpanBuilder::from_name(name.to_owned()).with_kind(SpanKind::Server);
        let span = tracer.build_with_context(builder, &caller);
        caller.with_span(span)
    }

    fn answered<R>(&self, labels: Labels, began: Instant, context: &Context, answer: Option<&Response<R>>) {
        let (known, status) = match answer {
            None => (true, "error".to_owned()),
            Some(answer) => self.status(answer),
        };
        let failed = status == "error" || (self.kind == Kind::Http && status.starts_with('5'));
        let span = context.span();
        if !known {
            span.update_name(UNKNOWN);
        }
        span.set_attribute(KeyValue::new(self.status_label(), status.clone()));
        if failed {
            span.set_status(Status::error(status.clone()));
        }
        span.end();
        let mut labels = labels.within(known);
        labels.push(KeyValue::new(self.status_label(), status));
        self.duration.record(began.elapsed().as_secs_f64(), &labels);
    }

    fn status_label(&self) -> &'static str {
        match self.kind {
            Kind::Http => "status",
            Kind::Grpc => "code",
        }
    }

    /// The status, and whether the route was known. A gRPC answer without one in its headers has begun well.
    fn status<R>(&self, answer: &Response<R>) -> (bool, String) {
        match self.kind {
            Kind::Http => (true, answer.status().as_u16().to_string()),
            Kind::Grpc => {
                let code =
                    answer.headers().get("grpc-status").and_then(|code| code.to_str().ok()).unwrap_or("0");
                // What was refused before it was looked up may be no method: by the guard, or without a token (16).
                let known = !matches!(code, "12" | "16") && answer.extensions().get::<Refused>().is_none();
                (known, code.to_owned())
            }
        }
    }
}

/// What a request is counted under.
struct Labels {
    kind: Kind,
    method: String,
    route: String,
}

impl Labels {
    fn of<B>(kind: Kind, request: &Request<B>) -> Self {
        let route = match kind {
            Kind::Http => request.extensions().get::<MatchedPath>().map_or(UNKNOWN, MatchedPath::as_str),
            Kind::Grpc if card::is_in(&card::http::decoded(request.uri().path())) => UNKNOWN,
            Kind::Grpc => request.uri().path().trim_start_matches('/'),
        };
        // A method that HTTP does not know may be any word.
        let method = match request.method().as_str() {
            known @ ("GET" | "POST" | "PUT" | "PATCH" | "DELETE" | "HEAD" | "OPTIONS") => known,
            _ => UNKNOWN,
        };
        Self { kind, method: method.to_owned(), route: route.to_owned() }
    }

    fn name(&self) -> String {
        match self.kind {
            Kind::Http => format!("{} {}", self.method, self.route),
            Kind::Grpc => self.route.clone(),
        }
    }

    fn within(self, known: bool) -> Vec<KeyValue> {
        let route = if known { self.route } else { UNKNOWN.to_owned() };
        match self.kind {
            Kind::Http => vec![KeyValue::new("method", self.method), KeyValue::new("route", route)],
            Kind::Grpc => vec![KeyValue::new("method", route)],
        }
    }
}

impl<S> Layer<S> for Requests {
    type Service = Traced<S>;

    fn layer(&self, inner: S) -> Traced<S> {
        Traced { requests: self.clone(), inner }
    }
}

/// A service behind [`Requests`].
#[derive(Debug, Clone)]
pub struct Traced<S> {
    requests: Requests,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for Traced<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: Send,
    R: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let labels = Labels::of(self.requests.kind, &request);
        let context = self.requests.context(&request, &labels.name());
        let (requests, began) = (self.requests.clone(), Instant::now());
        let answer = {
            let _current = context.clone().attach();
            self.inner.call(request)
        };
        Box::pin(async move {
            let answer = answer.with_context(context.clone()).await;
            requests.answered(labels, began, &context, answer.as_ref().ok());
            answer
        })
    }
}
