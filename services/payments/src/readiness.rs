//! When this process is ready.

use std::sync::Arc;
use std::time::Duration;

use chassis::health::Readiness;
use outbox::{RelayStatus, Sink};
use proto::payments::payments_service_server::SERVICE_NAME;
use sqlx::PgPool;
use tokio::sync::watch::Receiver;
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::migrate::schemas;

/// How often the gRPC health service learns whether the process is ready.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Ready when every schema is exactly what this program was built for, as the roles see it.
pub(crate) fn databases(readiness: &Readiness, payments: &PgPool, outbox: &PgPool) {
    for migrations in schemas() {
        let (name, pool) = match migrations.schema() {
            "outbox" => ("database.outbox", outbox),
            "strangler" => ("database.strangler", payments),
            _ => ("database.payments", payments),
        };
        let (migrations, pool) = (Arc::new(migrations), pool.clone());
        readiness.check(name, move || {
            let (migrations, pool) = (migrations.clone(), pool.clone());
            async move { migrations.verify(&pool).await }
        });
    }
}

/// Ready when the broker answers.
pub(crate) fn kafka(readiness: &Readiness, sink: Arc<impl Sink>) {
    readiness.check("kafka", move || {
        let sink = sink.clone();
        async move { sink.check().await.map_err(|error| error.to_string()) }
    });
}

/// Ready when everything that was granted can be sent. Only for a process without gRPC: that one serves all the same.
pub(crate) fn relay(readiness: &Readiness, status: Receiver<RelayStatus>) {
    readiness.check("relay", move || std::future::ready(status.borrow().check()));
}

/// Keeps the gRPC health service in step with the readiness until the shutdown; from then on it says `NOT_SERVING`.
pub(crate) async fn report(readiness: Readiness, health: HealthReporter, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        let ready = readiness.report().await.is_ready();
        say(&health, if ready { ServingStatus::Serving } else { ServingStatus::NotServing }).await;
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(REPORT_EVERY) => {}
        }
    }
    say(&health, ServingStatus::NotServing).await;
}

/// Of the whole process (the empty name) and of the service.
pub(crate) async fn say(health: &HealthReporter, status: ServingStatus) {
    for name in ["", SERVICE_NAME] {
        health.set_service_status(name, status).await;
    }
}
