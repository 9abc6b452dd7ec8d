//! What a process says about itself: its log on stderr, its numbers at `/metrics`, its spans to a collector.
//!
//! One [`Telemetry`] per process, passed to whoever counts or traces. `docs/telemetry.md` has the names and the alerts.

mod log;
mod masked;
mod metrics;
mod requests;
mod traces;

use opentelemetry::metrics::{Meter, MeterProvider as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

pub use self::log::{Filter, LogFormat};
pub use self::requests::{Requests, Traced};
pub use self::traces::{Exporter, continued};
use crate::config::Reader;

/// The settings of log and traces. Numbers need none.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `LOG_FORMAT`: `text` (default) or `json`.
    pub format: LogFormat,
    /// `RUST_LOG`: which events are logged; default `info,sqlx=warn`. Spans are not touched by it.
    pub filter: Filter,
    /// `OTEL_EXPORTER_OTLP_ENDPOINT` and `OTEL_TRACES_SAMPLER_ARG`: where spans go; `None` (default) makes none.
    pub exporter: Option<Exporter>,
}

/// Telemetry can't be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process has a log already.
    #[error("the log of this process is already started")]
    AlreadyStarted,
    /// The collector's address or the registry of numbers was refused.
    #[error("telemetry can't be set up")]
    Setup(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The numbers and spans of this process. Clones share them.
#[derive(Debug, Clone)]
pub struct Telemetry {
    meters: SdkMeterProvider,
    numbers: prometheus::Registry,
    tracers: Option<SdkTracerProvider>,
}

impl Settings {
    /// Reads `LOG_FORMAT`, `RUST_LOG` and the two of the exporter.
    pub fn read(reader: &mut Reader) -> Self {
        Self {
            format: reader.optional("LOG_FORMAT", LogFormat::Text, "text or json"),
            filter: reader.optional(
                "RUST_LOG",
                Filter::preset(),
                "a level or a filter such as info,sqlx=warn",
            ),
            exporter: Exporter::read(reader),
        }
    }
}

/// Starts log, numbers and spans of this process; `service` stands on every line and span. Inside a runtime when spans are
/// exported, whose connection needs one.
///
/// # Errors
/// [`Error::AlreadyStarted`] when the process has a log; [`Error::Setup`] for a collector's address that can't be used.
pub fn init(service: &'static str, settings: &Settings) -> Result<Telemetry, Error> {
    let tracers = settings.exporter.as_ref().map(|exporter| exporter.provider(service)).transpose()?;
    let telemetry = Telemetry::new(service, tracers)?;
    tracing_subscriber::registry()
        .with(log::layer(service, settings.format, &settings.filter))
        .with(telemetry.tracers.as_ref().map(traces::layer))
        .try_init()
        .map_err(|_| Error::AlreadyStarted)?;
    Ok(telemetry)
}

impl Telemetry {
    /// Numbers, and spans if there is where to send them; no log. For tests, which take a provider of their own.
    ///
    /// # Errors
    /// [`Error::Setup`].
    pub fn new(service: &'static str, tracers: Option<SdkTracerProvider>) -> Result<Self, Error> {
        let numbers = prometheus::Registry::new();
        let meters = metrics::provider(&numbers, resource(service))?;
        Ok(Self { meters, numbers, tracers })
    }

    /// Makes instruments; they show at [`Telemetry::routes`].
    pub fn meter(&self) -> Meter {
        self.meters.meter("banyan")
    }

    /// Where spans go; `None` when they are not exported.
    pub fn tracers(&self) -> Option<&SdkTracerProvider> {
        self.tracers.as_ref()
    }

    /// `GET /metrics` in Prometheus' text format, for the admin listener.
    pub fn routes(&self) -> axum::Router {
        metrics::routes(self.numbers.clone())
    }

    /// A layer that times HTTP requests and continues their caller's trace.
    pub fn http(&self) -> Requests {
        Requests::http(&self.meter(), self.tracers())
    }

    /// The same for gRPC calls.
    pub fn grpc(&self) -> Requests {
        Requests::grpc(&self.meter(), self.tracers())
    }

    /// Sends the spans that are left, within a bound. Blocks; call it when the work is done, with the runtime still alive.
    pub fn stop(self) {
        if let Some(tracers) = &self.tracers {
            traces::stop(tracers);
        }
    }
}

fn resource(service: &'static str) -> Resource {
    Resource::builder_empty().with_service_name(service).build()
}

fn setup(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Setup(error.into())
}
