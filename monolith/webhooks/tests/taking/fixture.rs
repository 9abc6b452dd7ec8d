//! A schema of webhooks of its own, the route over it, and payments that answer by a script.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use chassis::database::{PoolOptions, pool};
use chassis::role::ensure_role;
use chassis::{Secret, Telemetry, Url, server};
use outbox::BoxError;
use serde_json::{Value, json};
use sqlx::PgPool;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use uuid::Uuid;
use webhooks::{Delivered, Dispatcher, HEADER, Keys, Metrics, Notice, Options, Payments, Receiver, sign};

/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(20);

/// Answers in turn; when the script is over, with the last answer again.
#[derive(Default)]
pub(crate) struct Script {
    answers: Mutex<VecDeque<Result<Delivered, &'static str>>>,
    asked: Mutex<Vec<Notice>>,
}

pub(crate) struct World {
    database: stack::Database,
    pub(crate) admin: PgPool,
    pub(crate) pool: PgPool,
    router: Router,
    metrics: Metrics,
    telemetry: Telemetry,
}

pub(crate) fn secret() -> Secret {
    Secret::new("whsec_0123456789abcdef")
}

/// An event of a payment intent of ours.
pub(crate) fn event(id: &str, kind: &str) -> Value {
    json!({
        "id": id, "object": "event", "type": kind, "created": 1_700_000_000, "pending_webhooks": 1,
        "data": { "object": { "id": "pi_1", "object": "payment_intent", "status": "succeeded", "metadata": {
            "payment_id": Uuid::now_v7(), "tenant": "acme", "command_id": Uuid::now_v7(), "operation": "charge",
        } } },
    })
}

impl World {
    pub(crate) async fn open() -> anyhow::Result<Self> {
        Self::with(|receiver| receiver).await
    }

    /// With another receiver.
    pub(crate) async fn with(change: impl FnOnce(Receiver) -> Receiver) -> anyhow::Result<Self> {
        let database = stack::shared().await?.database("webhooks").await?;
        let admin = PgPool::connect(database.url()).await?;
        webhooks::migrations().apply(&admin).await?;
        let role = format!("{}_webhooks", database.name());
        let authority = database.url().split_once('@').map(|(_, rest)| rest).unwrap_or_default();
        let url: Url = format!("postgres://{role}:secret@{authority}").parse()?;
        ensure_role(&admin, &url).await?;
        webhooks::grant(&admin, &role).await?;
        let pool = pool(&url, &PoolOptions::new("webhooks", 4))?;
        let telemetry = Telemetry::new("webhooks", None)?;
        let metrics = Metrics::new(&telemetry.meter());
        let keys = Keys::new(vec![Secret::new("whsec_another_secret_"), secret()], Duration::from_secs(300));
        let receiver = change(Receiver::new(pool.clone(), keys, metrics.clone()));
        let (router, _) = webhooks::router(receiver).split_for_parts();
        Ok(Self { database, admin, pool, router: server::edge(router), metrics, telemetry })
    }

    /// The status, and the end of the problem's type.
    pub(crate) async fn send(&self, request: Request<Body>) -> anyhow::Result<(u16, String)> {
        let response = self.router.clone().oneshot(request).await?;
        let status = response.status().as_u16();
        let bytes = to_bytes(response.into_body(), 1 << 20).await?;
        let problem: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let code = problem["type"].as_str().and_then(|kind| kind.rsplit('/').next());
        Ok((status, code.unwrap_or_default().to_owned()))
    }

    /// Sends bytes with a header.
    pub(crate) async fn post(&self, signature: &str, body: impl Into<Body>) -> anyhow::Result<(u16, String)> {
        let request = Request::post("/webhooks/provider").header(HEADER, signature);
        self.send(request.header("content-type", "application/json").body(body.into())?).await
    }

    /// Sends an event as the provider would, now.
    pub(crate) async fn tell(&self, event: &Value) -> anyhow::Result<(u16, String)> {
        let body = event.to_string();
        self.post(&sign(&secret(), OffsetDateTime::now_utc(), body.as_bytes()), body).await
    }

    /// Every row of every table of the schema, as the database has it: another row, or another version of one, shows.
    pub(crate) async fn rows(&self) -> anyhow::Result<Vec<String>> {
        let tables: Vec<String> = sqlx::query_scalar(
            "select c.oid::regclass::text from pg_class c where c.relnamespace = 'webhooks'::regnamespace
             and c.relkind = 'r' order by 1",
        )
        .fetch_all(&self.admin)
        .await?;
        anyhow::ensure!(tables.len() == 2, "{tables:?}");
        let mut rows = Vec::new();
        for table in tables {
            let sql = format!(
                "select t.xmin::text || ' ' || t.ctid::text || ' ' || md5(t::text) from {table} t order by 1"
            );
            rows.extend(
                sqlx::query_scalar::<_, String>(sqlx::AssertSqlSafe(sql)).fetch_all(&self.admin).await?,
            );
        }
        Ok(rows)
    }

    /// Runs a dispatcher until the notice has the state.
    pub(crate) async fn until(
        &self,
        script: &Arc<Script>,
        options: Options,
        id: &str,
        state: &str,
    ) -> anyhow::Result<()> {
        if self.dispatch(script, options, async || Ok(self.state(id).await? == state)).await? {
            return Ok(());
        }
        anyhow::bail!("{id} is {} and not {state}", self.state(id).await?)
    }

    /// Runs a dispatcher until the script was asked so often, and until the last answer is marked.
    pub(crate) async fn until_asked(
        &self,
        script: &Arc<Script>,
        options: Options,
        times: usize,
    ) -> anyhow::Result<()> {
        if self.dispatch(script, options, async || Ok(script.asked().len() >= times)).await? {
            return Ok(());
        }
        anyhow::bail!("asked {} times and not {times}", script.asked().len())
    }

    /// Runs a dispatcher until something is so, and what it has begun then is over. False when that takes too long.
    async fn dispatch(
        &self,
        script: &Arc<Script>,
        options: Options,
        is_so: impl AsyncFn() -> anyhow::Result<bool>,
    ) -> anyhow::Result<bool> {
        let dispatcher =
            Dispatcher::new(self.pool.clone(), script.clone(), self.metrics.clone()).with(options);
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(dispatcher.run(shutdown.clone()));
        let reached = tokio::time::timeout(SOON, async {
            while !is_so().await? {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Ok::<_, anyhow::Error>(())
        });
        let reached = reached.await;
        shutdown.cancel();
        running.await?;
        match reached {
            Ok(done) => done.map(|()| true),
            Err(_) => Ok(false),
        }
    }

    pub(crate) async fn state(&self, id: &str) -> anyhow::Result<String> {
        let sql = "select state from webhooks.notice where id = $1";
        Ok(sqlx::query_scalar(sql).bind(id).fetch_one(&self.admin).await?)
    }

    /// What `/metrics` shows.
    pub(crate) async fn numbers(&self) -> anyhow::Result<String> {
        let answer = self.telemetry.routes().oneshot(Request::get("/metrics").body(Body::empty())?).await?;
        Ok(String::from_utf8(to_bytes(answer.into_body(), 1 << 20).await?.to_vec())?)
    }

    pub(crate) async fn close(self) -> anyhow::Result<()> {
        self.pool.close().await;
        self.admin.close().await;
        Ok(self.database.drop_now().await?)
    }
}

impl Script {
    pub(crate) fn new(answers: impl IntoIterator<Item = Result<Delivered, &'static str>>) -> Arc<Self> {
        Arc::new(Self { answers: Mutex::new(answers.into_iter().collect()), asked: Mutex::default() })
    }

    pub(crate) fn asked(&self) -> Vec<Notice> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Payments for Script {
    async fn deliver(&self, notice: &Notice) -> Result<Delivered, BoxError> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(notice.clone());
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let last = answers.len() == 1;
        let answer = if last { answers.front().cloned() } else { answers.pop_front() };
        answer.ok_or("the script is empty")?.map_err(Into::into)
    }
}
