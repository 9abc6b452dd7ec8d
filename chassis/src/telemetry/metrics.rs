//! Numbers, as Prometheus reads them.

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Registry, TEXT_FORMAT, TextEncoder};

use super::{Error, setup};
use crate::Problem;

/// A provider whose instruments the registry shows.
pub(super) fn provider(registry: &Registry, resource: Resource) -> Result<SdkMeterProvider, Error> {
    // One scope per process: its name on each line would say nothing.
    let exporter = opentelemetry_prometheus::exporter()
        .with_registry(registry.clone())
        .scope_info_enabled(false)
        .build()
        .map_err(setup)?;
    Ok(SdkMeterProvider::builder().with_reader(exporter).with_resource(resource).build())
}

/// `GET /metrics`.
pub(super) fn routes(registry: Registry) -> Router {
    let show = move || {
        let shown = show(&registry);
        async { shown }
    };
    Router::new().route("/metrics", get(show))
}

fn show(registry: &Registry) -> Response {
    match TextEncoder::new().encode_to_string(&registry.gather()) {
        Ok(text) => ([(CONTENT_TYPE, TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the metrics can't be shown");
            Problem::internal().into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use opentelemetry::KeyValue;
    use tower::ServiceExt as _;

    use crate::telemetry::Telemetry;

    #[tokio::test]
    async fn what_is_counted_is_shown() {
        let telemetry = Telemetry::new("shop", None).unwrap();
        let sold = telemetry.meter().u64_counter("shop.sold").with_description("Things sold.").build();
        sold.add(2, &[KeyValue::new("kind", "tea")]);
        let request = Request::get("/metrics").body(Body::empty()).unwrap();
        let answer = telemetry.routes().oneshot(request).await.unwrap();
        assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4");
        let text = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        let text = std::str::from_utf8(&text).unwrap();
        assert!(text.contains("# TYPE shop_sold_total counter\nshop_sold_total{kind=\"tea\"} 2\n"), "{text}");
        assert!(text.contains("target_info{service_name=\"shop\"} 1"), "{text}");
    }
}
