//! Spans leave the process for a collector that speaks OTLP, and requests continue their caller's trace.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use chassis::config::Reader;
use chassis::telemetry::{self, Settings, Telemetry, continued};
use http::Request;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};
use tokio::sync::mpsc;
use tonic::transport::server::TcpIncoming;
use tower::ServiceExt as _;

const PATIENCE: Duration = Duration::from_secs(20);
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn parent() -> String {
    format!("00-{TRACE}-00f067aa0ba902b7-01")
}

/// A collector that passes on what it gets.
struct Collector(mpsc::UnboundedSender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let _ = self.0.send(request.into_inner());
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_arrive_at_the_collector_whatever_is_logged() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (tell, mut told) = mpsc::unbounded_channel();
    let server = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(Collector(tell)))
        .serve_with_incoming(TcpIncoming::from(listener));
    let server = tokio::spawn(server);

    let mut reader = Reader::from_pairs([
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        // The log's filter has no say in spans.
        ("RUST_LOG", "off"),
    ]);
    let settings = Settings::read(&mut reader);
    reader.finish().unwrap();
    let telemetry = telemetry::init("shop", &settings).unwrap();
    tracing::info_span!("brew", tea = "green", note = "4111 1111 1111 1111").in_scope(|| {
        tracing::info!(paid_with = 4_111_111_111_111_111_i64, "brewed for 4111111111111111");
    });
    tokio::task::spawn_blocking(|| telemetry.stop()).await.unwrap();

    let export = tokio::time::timeout(PATIENCE, told.recv()).await.unwrap().unwrap();
    let of = &export.resource_spans[0];
    let resource = of.resource.as_ref().unwrap();
    assert!(format!("{resource:?}").contains("shop"), "{resource:?}");
    assert_eq!(of.scope_spans[0].spans[0].name, "brew");
    let exported = format!("{of:?}");
    assert!(exported.contains("brewed for ****************") && !exported.contains("1111"), "{exported}");
    server.abort();
}

#[tokio::test]
async fn a_request_is_timed_by_its_route_and_continues_its_callers_trace() {
    let exporter = InMemorySpanExporter::default();
    let tracers = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let telemetry = Telemetry::new("shop", Some(tracers)).unwrap();
    // What a call made by the handler would say.
    let calling = || async {
        continued().into_iter().map(|(name, value)| format!("{name}={value} ")).collect::<String>()
    };
    let router = Router::new().route("/tea/{kind}", get(calling)).layer(telemetry.http());
    for path in ["/tea/green", "/tea/black"] {
        let request = Request::get(path).header("traceparent", parent()).body(Body::empty()).unwrap();
        let answer = router.clone().oneshot(request).await.unwrap();
        let said = axum::body::to_bytes(answer.into_body(), 4096).await.unwrap();
        assert!(said.starts_with(format!("traceparent=00-{TRACE}-").as_bytes()), "{said:?}");
        assert!(!said.starts_with(format!("traceparent={}", parent()).as_bytes()), "the span is a new one");
    }
    let spans = exporter.get_finished_spans().unwrap();
    assert_eq!(spans.len(), 2);
    for span in spans {
        assert_eq!(
            (span.name.as_ref(), span.span_context.trace_id().to_string()),
            ("GET /tea/{kind}", TRACE.into())
        );
    }
    let text = shown(&telemetry).await.unwrap();
    let count =
        "http_server_request_duration_seconds_count{method=\"GET\",route=\"/tea/{kind}\",status=\"200\"} 2";
    assert!(text.contains(count), "{text}");
}

#[tokio::test]
async fn paths_and_methods_that_nobody_serves_make_no_series_of_their_own() {
    let exporter = InMemorySpanExporter::default();
    let tracers = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let telemetry = Telemetry::new("shop", Some(tracers)).unwrap();
    // There is no such method, or nobody looked because there was no token.
    let inner = tower::service_fn(|request: Request<Body>| async move {
        let code = if request.uri().path().ends_with('7') { "16" } else { "12" };
        let answer = http::Response::builder().header("grpc-status", code).body(Body::empty()).unwrap();
        Ok::<_, std::convert::Infallible>(answer)
    });
    let grpc = tower::Layer::layer(&telemetry.grpc(), inner);
    let http = Router::new().layer(telemetry.http());
    for n in 0..20 {
        let request = || Request::builder().method(format!("M{n}").as_str()).uri(format!("/{n}"));
        grpc.clone().oneshot(request().body(Body::empty()).unwrap()).await.unwrap();
        http.clone().oneshot(request().body(Body::empty()).unwrap()).await.unwrap();
    }
    let text = shown(&telemetry).await.unwrap();
    let counts = text.lines().filter(|line| line.contains("duration_seconds_count")).map(|line| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        (series.to_owned(), value.to_owned())
    });
    let counts: BTreeMap<String, String> = counts.collect();
    let wanted = [
        (
            "http_server_request_duration_seconds_count{method=\"unknown\",route=\"unknown\",status=\"404\"}",
            "20",
        ),
        ("rpc_server_call_duration_seconds_count{code=\"12\",method=\"unknown\"}", "18"),
        ("rpc_server_call_duration_seconds_count{code=\"16\",method=\"unknown\"}", "2"),
    ];
    assert_eq!(counts, wanted.map(|(series, value)| (series.to_owned(), value.to_owned())).into());
    let spans = exporter.get_finished_spans().unwrap();
    let names: BTreeSet<&str> = spans.iter().map(|span| &*span.name).collect();
    assert_eq!((spans.len(), names), (40, ["unknown", "unknown unknown"].into()));
}

async fn shown(telemetry: &Telemetry) -> Result<String, Box<dyn std::error::Error>> {
    let request = Request::get("/metrics").body(Body::empty())?;
    let answer = telemetry.routes().oneshot(request).await?;
    let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20).await?;
    Ok(String::from_utf8(bytes.to_vec())?)
}

#[tokio::test]
async fn a_trace_that_looks_like_a_card_number_is_not_continued() {
    let exporter = InMemorySpanExporter::default();
    let tracers = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let telemetry = Telemetry::new("shop", Some(tracers)).unwrap();
    let calling = || async { continued().into_iter().map(|(_, value)| value).collect::<String>() };
    let router = Router::new().route("/tea", get(calling)).layer(telemetry.http());
    let span = format!("00-{TRACE}-4111111111111111-01");
    for (parent, state) in [(span, "a=b"), (parent(), "a=4111111111111111")] {
        let request = Request::get("/tea").header("traceparent", parent).header("tracestate", state);
        let answer = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200, "a trace decides nothing");
        let said = axum::body::to_bytes(answer.into_body(), 4096).await.unwrap();
        assert!(!said.is_empty() && !said.windows(8).any(|it| it == b"11111111"), "{said:?}");
    }
    assert!(
        exporter
            .get_finished_spans()
            .unwrap()
            .iter()
            .all(|it| it.span_context.trace_id().to_string() != TRACE)
    );
}
