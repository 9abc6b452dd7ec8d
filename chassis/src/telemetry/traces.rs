//! Spans, and where they go: a collector that speaks OTLP over gRPC.

use std::time::Duration;

use http::HeaderMap;
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::registry::LookupSpan;

use super::masked::Masked;
use super::{Error, resource, setup};
use crate::card;
use crate::config::Reader;
use crate::setting::Url;

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const RATIO: &str = "OTEL_TRACES_SAMPLER_ARG";

/// How long one batch of spans may take to be sent.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the last batches may take when the process ends.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// Where spans go, and how many.
#[derive(Debug, Clone)]
pub struct Exporter {
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`: a collector's OTLP address for gRPC, such as `http://127.0.0.1:4317`.
    pub endpoint: Url,
    /// `OTEL_TRACES_SAMPLER_ARG`: the share of traces begun here that is kept, 0 to 1; default 1. A trace that a caller began
    /// is kept if the caller keeps it.
    pub ratio: f64,
}

impl Exporter {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let endpoint = reader.maybe::<Url>(ENDPOINT, "no spans", "a URL such as http://127.0.0.1:4317");
        let ratio = reader.optional(RATIO, 1.0_f64, "a number from 0 to 1");
        if !(0.0..=1.0).contains(&ratio) {
            reader.reject(RATIO, "out of range", "a number from 0 to 1");
        }
        let endpoint = endpoint?;
        if endpoint.scheme() != "http" {
            reader.reject(ENDPOINT, "wrong scheme", "a URL such as http://127.0.0.1:4317");
        }
        Some(Self { endpoint, ratio })
    }

    /// Spans are sent in batches by a thread of their own; when the collector is away, what does not fit is dropped and said.
    pub(super) fn provider(&self, service: &'static str) -> Result<SdkTracerProvider, Error> {
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(self.endpoint.expose())
            .with_timeout(EXPORT_TIMEOUT)
            .build()
            .map_err(setup)?;
        Ok(SdkTracerProvider::builder()
            .with_batch_exporter(Masked(exporter))
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(self.ratio))))
            .with_resource(resource(service))
            .build())
    }
}

/// The spans of `tracing` as spans of OpenTelemetry; `RUST_LOG` has no say in them.
pub(super) fn layer<S>(tracers: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    tracing_opentelemetry::layer().with_tracer(tracers.tracer("tracing")).with_filter(LevelFilter::INFO)
}

pub(super) fn stop(tracers: &SdkTracerProvider) {
    if let Err(error) = tracers.shutdown_with_timeout(STOP_TIMEOUT) {
        tracing::warn!(error = &error as &dyn std::error::Error, "the last spans may not have arrived");
    }
}

/// The trace that a request's headers continue; none for headers without one, or with a malformed one. An id that looks like a
/// card number, by chance or not, is dropped and not refused: a trace decides nothing.
pub(super) fn caller(headers: &HeaderMap) -> Context {
    let trace = ["traceparent", "tracestate"].into_iter().flat_map(|name| headers.get_all(name));
    if trace.into_iter().any(|value| card::is_in(value.as_bytes())) {
        return Context::new();
    }
    TraceContextPropagator::new().extract_with_context(&Context::new(), &Incoming(headers))
}

/// The headers by which a call continues the current trace: `traceparent` and `tracestate`, or none.
pub fn continued() -> Vec<(&'static str, String)> {
    let mut headers = Outgoing(Vec::new());
    TraceContextPropagator::new().inject_context(&Context::current(), &mut headers);
    headers.0
}

struct Incoming<'a>(&'a HeaderMap);

impl Extractor for Incoming<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

struct Outgoing(Vec<(&'static str, String)>);

impl Injector for Outgoing {
    fn set(&mut self, key: &str, value: String) {
        let name = if key == "traceparent" { "traceparent" } else { "tracestate" };
        if !value.is_empty() {
            self.0.push((name, value));
        }
    }
}
