//! When this process is ready.

use std::sync::Arc;

use chassis::health::Readiness;
use chassis::migrations::Migrations;
use outbox::{RelayStatus, Sink};
use sqlx::PgPool;
use tokio::sync::watch::Receiver;

use crate::Pools;
use crate::migrate::schemas;

/// Ready when every schema is exactly what this program was built for, as its own role sees it.
pub(crate) fn databases(readiness: &Readiness, pools: &Pools) {
    for migrations in schemas() {
        let Some((name, pool)) = check_of(migrations.schema(), pools) else { continue };
        database(readiness, name, migrations, &pool);
    }
}

/// Ready when one schema is.
pub(crate) fn database(readiness: &Readiness, name: &'static str, migrations: Migrations, pool: &PgPool) {
    let (migrations, pool) = (Arc::new(migrations), pool.clone());
    readiness.check(name, move || {
        let (migrations, pool) = (migrations.clone(), pool.clone());
        async move { migrations.verify(&pool).await }
    });
}

/// Ready when the broker answers. Only for a process without the API: that one serves while Kafka is away.
pub(crate) fn kafka(readiness: &Readiness, sink: Arc<impl Sink>) {
    readiness.check("kafka", move || {
        let sink = sink.clone();
        async move { sink.check().await.map_err(|error| error.to_string()) }
    });
}

/// Ready when everything that was granted can be sent. Only for a process without the API, likewise.
pub(crate) fn relay(readiness: &Readiness, status: Receiver<RelayStatus>) {
    readiness.check("relay", move || std::future::ready(status.borrow().check()));
}

fn check_of(schema: &str, pools: &Pools) -> Option<(&'static str, PgPool)> {
    Some(match schema {
        "catalog" => ("database.catalog", pools.catalog.clone()),
        "orders" => ("database.orders", pools.orders.clone()),
        "notifications" => ("database.notifications", pools.notifications.clone()),
        "outbox" => ("database.outbox", pools.outbox.clone()),
        "webhooks" => ("database.webhooks", pools.webhooks.clone()),
        "strangler" => ("database.strangler", pools.strangler.clone()),
        _ => return None,
    })
}
