//! What a story starts from: databases with roles of their own, and a topic of its own.

use std::{future::Future, time::Duration};

use outbox::{BoxError, Event, Headers, Incoming, Json, Relay, Topic, kafka};
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, postgres::PgTransaction};
use stack::{Database, Stack};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Every wait of a story ends within this time.
const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) const NOTES: Topic = Topic::new("notes.v1");

/// A small event: a text under a key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Noted {
    pub(crate) key: String,
    pub(crate) text: String,
}

impl Event for Noted {
    const TOPIC: Topic = NOTES;
    const KIND: &'static str = "test.noted.v1";
    type Codec = Json;

    fn key(&self) -> &str {
        &self.key
    }

    fn headers(&self, headers: &mut Headers) {
        headers.set("tenant", "acme");
    }
}

/// The same as a snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Snapped {
    pub(crate) key: String,
    pub(crate) text: String,
}

impl Event for Snapped {
    const TOPIC: Topic = NOTES;
    const KIND: &'static str = "test.snapped.v1";
    type Codec = Json;

    fn key(&self) -> &str {
        &self.key
    }
}

/// Both of them, as a replica takes them.
pub(crate) enum Stream {
    Noted(Noted),
    Snapped(Snapped),
}

impl Incoming for Stream {
    const TOPIC: Topic = NOTES;

    fn decode(kind: &str, payload: &[u8]) -> Option<Result<Self, BoxError>> {
        None.or_else(|| Some(<Noted as Incoming>::decode(kind, payload)?.map(Self::Noted)))
            .or_else(|| Some(<Snapped as Incoming>::decode(kind, payload)?.map(Self::Snapped)))
    }
}

pub(crate) fn noted(key: &str, text: impl ToString) -> Noted {
    Noted { key: key.into(), text: text.to_string() }
}

/// A database with an outbox, as its owner, as module `origin` and as the relay.
pub(crate) struct Home {
    database: Database,
    pub(crate) admin: PgPool,
    pub(crate) module: PgPool,
    pub(crate) relay: PgPool,
}

impl Home {
    pub(crate) async fn new(stack: &Stack, name: &str, origin: &str) -> Result<Self, BoxError> {
        let database = stack.database(name).await?;
        let admin = PgPool::connect(database.url()).await?;
        outbox::migrate(&admin).await?;
        admin.close().await;
        Self::open(database, origin).await
    }

    /// A home in a database that has the schema.
    pub(crate) async fn open(database: Database, origin: &str) -> Result<Self, BoxError> {
        let admin = PgPool::connect(database.url()).await?;
        let mut pools = Vec::new();
        for role in ["module", "relay"] {
            let role = format!("{}_{role}", database.name());
            let create = format!("create role {role} login password 'story'");
            sqlx::query(sqlx::AssertSqlSafe(create)).execute(&admin).await?;
            let options = database.url().parse::<sqlx::postgres::PgConnectOptions>()?;
            pools.push(PgPool::connect_with(options.username(&role).password("story")).await?);
        }
        let module = format!("{}_module", database.name());
        outbox::grant_module(&admin, &module, origin, &[NOTES]).await?;
        outbox::grant_replica(&admin, &module).await?;
        outbox::grant_relay(&admin, &format!("{}_relay", database.name())).await?;
        let grant = format!(
            "create table public.effect (n bigserial, key text, version bigint, text text);
             grant all on public.effect to {0}_module; grant all on public.effect_n_seq to {0}_module",
            database.name()
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(grant)).execute(&admin).await?;
        let relay = pools.pop().ok_or("two pools")?;
        let module = pools.pop().ok_or("two pools")?;
        Ok(Self { database, admin, module, relay })
    }

    /// The database's name; its roles are `<name>_module` and `<name>_relay`.
    pub(crate) fn name(&self) -> &str {
        self.database.name()
    }

    /// The address of the database for its module's role.
    pub(crate) fn module_url(&self) -> String {
        let (_, server) = self.database.url().rsplit_once('@').unwrap_or_default();
        format!("postgres://{}_module:story@{server}", self.database.name())
    }

    pub(crate) async fn publish<E: Event>(&self, event: &E) -> Result<i64, BoxError> {
        let mut tx = self.module.begin().await?;
        let version = outbox::publish(&mut tx, event).await?;
        tx.commit().await?;
        Ok(version)
    }

    pub(crate) async fn pending(&self) -> Result<i64, BoxError> {
        Ok(sqlx::query_scalar("select count(*) from outbox.pending").fetch_one(&self.admin).await?)
    }

    /// What handlers did here, in order, as `key:version:text`.
    pub(crate) async fn effects(&self) -> Result<Vec<String>, BoxError> {
        let all = "select key || ':' || version || ':' || text from public.effect order by n";
        Ok(sqlx::query_scalar(all).fetch_all(&self.admin).await?)
    }

    pub(crate) async fn drop_now(self) -> Result<(), BoxError> {
        for pool in [self.module, self.relay, self.admin] {
            pool.close().await;
        }
        Ok(self.database.drop_now().await?)
    }
}

/// The effect of the stories' handlers.
pub(crate) async fn effect(
    tx: &mut PgTransaction<'_>,
    key: &str,
    version: i64,
    text: &str,
) -> Result<(), BoxError> {
    sqlx::query("insert into public.effect (key, version, text) values ($1, $2, $3)")
        .bind(key)
        .bind(version)
        .bind(text)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// A topic prefix of the story's own, and what it started.
pub(crate) struct World {
    pub(crate) stack: &'static Stack,
    pub(crate) kafka: kafka::Config,
    shutdown: CancellationToken,
    tasks: Vec<JoinHandle<Result<(), outbox::Error>>>,
}

impl World {
    pub(crate) async fn new(name: &str) -> Result<Self, BoxError> {
        let stack = stack::shared().await?;
        let kafka = kafka::Config {
            bootstrap_servers: stack.kafka().to_owned(),
            topic_prefix: stack.topic_prefix(name),
            instance_id: None,
            client_id: name.to_owned(),
        };
        kafka::create_topics(&kafka, &[NOTES], 3).await?;
        Ok(Self { stack, kafka, shutdown: CancellationToken::new(), tasks: Vec::new() })
    }

    pub(crate) fn relay(&mut self, home: &Home) -> Result<(), BoxError> {
        let relay = Relay::new(home.relay.clone(), kafka::sink(&self.kafka)?);
        self.spawn(|shutdown| relay.run(shutdown));
        Ok(())
    }

    pub(crate) fn spawn<F>(&mut self, run: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = Result<(), outbox::Error>> + Send + 'static,
    {
        self.tasks.push(tokio::spawn(run(self.shutdown.clone())));
    }

    /// Stops what the story started and passes its errors on.
    pub(crate) async fn stop(self) -> Result<(), BoxError> {
        self.shutdown.cancel();
        for task in self.tasks {
            tokio::time::timeout(PATIENCE, task).await???;
        }
        Ok(())
    }
}

/// Waits until `look` finds `wanted`; says what it found last when patience ends.
pub(crate) async fn until<T: PartialEq + std::fmt::Debug, F: Future<Output = Result<T, BoxError>>>(
    wanted: T,
    look: impl Fn() -> F,
) -> Result<(), BoxError> {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        let found = look().await?;
        if found == wanted {
            return Ok(());
        }
        if tokio::time::Instant::now() > end {
            return Err(format!("wanted {wanted:?}, found {found:?}").into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
