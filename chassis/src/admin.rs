//! The admin listener: liveness and readiness, on a port of its own that the public never sees.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};

use crate::health::{Readiness, Report};
use crate::server;

/// `GET /livez`, `GET /readyz`, and the routes of `extra`. Unknown routes answer with a problem.
pub fn router(readiness: Readiness, extra: Router) -> Router {
    let health = Router::new().route("/livez", get(live)).route("/readyz", get(ready)).with_state(readiness);
    server::edge(health.merge(extra))
}

/// Alive as long as the runtime answers; restarting helps with nothing else.
async fn live() -> &'static str {
    "alive\n"
}

async fn ready(State(readiness): State<Readiness>) -> (StatusCode, Json<Report>) {
    let report = readiness.report().await;
    let status = if report.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use tower::ServiceExt as _;

    use super::*;

    async fn status(router: &Router, path: &str) -> StatusCode {
        let request = Request::get(path).body(Body::empty()).unwrap();
        router.clone().oneshot(request).await.unwrap().status()
    }

    #[tokio::test]
    async fn a_process_that_is_not_ready_is_alive() {
        let readiness = Readiness::new();
        let router = router(readiness.clone(), Router::new().route("/extra", get(|| async { "more" })));
        assert_eq!(status(&router, "/readyz").await, StatusCode::OK);
        readiness.check("database", || async { Err("gone".to_owned()) });
        assert_eq!(status(&router, "/readyz").await, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status(&router, "/livez").await, StatusCode::OK);
        assert_eq!(status(&router, "/extra").await, StatusCode::OK);
        assert_eq!(status(&router, "/unknown").await, StatusCode::NOT_FOUND);
    }
}
