//! A migrated database, and the router over it.

use std::sync::Arc;
use std::time::Duration;

use ::payments::Desk;
use app::{AUDIENCE, Databases, ISSUER, MIGRATION, MigrateConfig, Pools, RequestPayments, Shop};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use catalog::Catalog;
use chassis::token::{Issuer, Role, Verifier};
use chassis::{Page, Reader, Secret, Telemetry, Url};
use orders::Orders;
use outbox::kafka;
use serde_json::{Value, json};
use sqlx::PgPool;
use strangler::Owners;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;
use webhooks::{Keys, Receiver};

use crate::half::Half;

/// A shop of one database.
pub(crate) struct World {
    database: stack::Database,
    /// The superuser's pool.
    pub(crate) admin: PgPool,
    /// The shop.
    pub(crate) shop: Shop,
    /// What is this process' of payments.
    pub(crate) half: Half,
    router: Router,
    tasks: TaskTracker,
    /// Products in EUR and in USD.
    pub(crate) tea: String,
    pub(crate) tray: String,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) replayed: bool,
    pub(crate) body: Value,
}

impl World {
    /// With `remote` as the payments service.
    pub(crate) async fn open(remote: Arc<dyn Desk>) -> anyhow::Result<Self> {
        stack::statements::count();
        let stack = stack::shared().await?;
        let database = stack.database("app").await?;
        let databases = databases(&database)?;
        let config = MigrateConfig {
            admin: database.url().parse()?,
            databases: databases.clone(),
            kafka: kafka::Config {
                bootstrap_servers: stack.kafka().to_owned(),
                topic_prefix: stack.topic_prefix("app"),
                instance_id: None,
                client_id: "tests".to_owned(),
            },
            telemetry: chassis::telemetry::Settings::read(&mut Reader::default()),
        };
        let admin = PgPool::connect(database.url()).await?;
        Half::prepare(&admin).await?;
        app::migrate(&config, &["acme".to_owned()]).await?;
        let pools = Pools::open(&databases, 4)?;
        let tasks = TaskTracker::new();
        let half = Half::new(&pools);
        let shop = shop(&pools, remote, (&half, &tasks))?;
        let products = shop.catalog.list("acme", Page { limit: 50, after: None }).await?;
        let id =
            |sku| products.iter().find(|it| it.sku == sku).map(|it| it.id.to_string()).unwrap_or_default();
        let (tea, tray) = (id("tea-100"), id("tray-1"));
        let router = app::router(shop.clone(), Verifier::new(ISSUER, AUDIENCE, &key()));
        Ok(Self { database, admin, shop, half, router, tasks, tea, tray })
    }

    /// Sends a request as it is.
    pub(crate) async fn send(&self, request: Request<Body>) -> anyhow::Result<Answer> {
        let response = self.router.clone().oneshot(request).await?;
        let status = response.status().as_u16();
        let replayed = response.headers().contains_key("idempotent-replayed");
        let bytes = to_bytes(response.into_body(), usize::MAX).await?;
        Ok(Answer { status, replayed, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) })
    }

    /// `GET` as a merchant of a tenant.
    pub(crate) async fn get(&self, tenant: &str, path: &str) -> anyhow::Result<Answer> {
        let token = token(tenant, &[Role::Merchant]);
        self.send(Request::get(path).header("authorization", token).body(Body::empty())?).await
    }

    /// `POST` of JSON as a merchant of acme.
    pub(crate) async fn post(&self, path: &str, key: &str, body: &Value) -> anyhow::Result<Answer> {
        self.send(post(path, key).body(body.to_string().into())?).await
    }

    /// A good order, accepted.
    pub(crate) async fn order(&self, key: &str) -> anyhow::Result<Value> {
        let answer = self.post("/v1/orders", key, &self.order_body()).await?;
        anyhow::ensure!(answer.status == 201, "{answer:?}");
        Ok(answer.body)
    }

    /// A good order.
    pub(crate) fn order_body(&self) -> Value {
        json!({
            "lines": [{ "product_id": self.tea, "quantity": 2 }],
            "currency": "EUR",
            "payment_method": "pm_card_visa",
            "capture_method": "manual",
        })
    }

    pub(crate) async fn close(self) -> anyhow::Result<()> {
        self.tasks.close();
        tokio::time::timeout(Duration::from_secs(20), self.tasks.wait()).await?;
        self.admin.close().await;
        Ok(self.database.drop_now().await?)
    }
}

/// A `POST` of JSON as a merchant of acme.
pub(crate) fn post(path: &str, key: &str) -> axum::http::request::Builder {
    Request::post(path)
        .header("authorization", token("acme", &[Role::Merchant]))
        .header("content-type", "application/json")
        .header("idempotency-key", key)
}

/// An `authorization` value.
pub(crate) fn token(tenant: &str, roles: &[Role]) -> String {
    let issued = Issuer::new(ISSUER, &key()).issue("ada", tenant, roles, AUDIENCE, Duration::from_secs(60));
    format!("Bearer {}", issued.unwrap_or_default())
}

fn key() -> Secret {
    Secret::new("a key of thirty-two bytes at least")
}

/// Signs webhooks.
pub(crate) fn webhook_secret() -> Secret {
    Secret::new("whsec_0123456789abcdef")
}

fn databases(database: &stack::Database) -> anyhow::Result<Databases> {
    let authority = database.url().split_once('@').map(|(_, rest)| rest).unwrap_or_default();
    let url = |module: &str| -> anyhow::Result<Url> {
        Ok(format!("postgres://{}_{module}:secret@{authority}", database.name()).parse()?)
    };
    Ok(Databases {
        catalog: url("catalog")?,
        orders: url("orders")?,
        #[cfg(feature = "local-payments")]
        payments: url("payments")?,
        notifications: url("notifications")?,
        outbox: url("outbox")?,
        housekeeper: url("housekeeper")?,
        strangler: url("strangler")?,
        webhooks: url("webhooks")?,
    })
}

fn shop(pools: &Pools, remote: Arc<dyn Desk>, (half, tasks): (&Half, &TaskTracker)) -> anyhow::Result<Shop> {
    let catalog = Catalog::new(pools.catalog.clone());
    let requests = RequestPayments::new(Owners::new(MIGRATION, pools.orders.clone()));
    let orders = Orders::new(pools.orders.clone(), catalog.clone(), Arc::new(requests), tasks.clone());
    let payments = half.desk(pools, remote, (&orders, tasks));
    let keys = Keys::new(vec![webhook_secret()], Duration::from_secs(300));
    let metrics = webhooks::Metrics::new(&Telemetry::new("tests", None)?.meter());
    Ok(Shop { catalog, orders, payments, webhooks: Receiver::new(pools.webhooks.clone(), keys, metrics) })
}
