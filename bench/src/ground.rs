//! What every measurement stands on: the servers, a database and a topic of its own, and the programs.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
};
use sqlx::{PgPool, postgres::PgPoolOptions};
use stack::{Choice, Database, Stack};

use crate::{
    outbox::{Contender, workload},
    process::Process,
};

/// The logical topic of every contender.
pub(crate) const TOPIC: outbox::Topic = outbox::Topic::new("bench.v1");

/// Partitions of each topic.
pub(crate) const PARTITIONS: i32 = 8;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections of a scene's pool, above the most clients or writers that a row uses at once.
const CONNECTIONS: u32 = 32;

/// The servers, and where programs and logs are.
pub(crate) struct Ground {
    pub(crate) stack: Stack,
    pub(crate) folder: tempfile::TempDir,
    programs: PathBuf,
    peers: PathBuf,
}

/// A database with one contender's outbox in it.
pub(crate) struct Scene {
    pub(crate) contender: Contender,
    pub(crate) pool: PgPool,
    pub(crate) prefix: String,
    database: Database,
}

/// The settings all our own clients share.
pub(crate) fn client(servers: &str) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", servers).set("allow.auto.create.topics", "false");
    client
}

impl Ground {
    /// Brings the servers up.
    pub(crate) async fn new(choice: Choice) -> Result<Self> {
        let stack = Stack::start(choice).await?;
        eprintln!("{}", stack.describe());
        let own = std::env::current_exe().context("find the running program")?;
        let programs = own.parent().context("the running program is in no folder")?.to_owned();
        let peers = programs.parent().unwrap_or(&programs).join("peers");
        Ok(Self { stack, folder: tempfile::tempdir()?, programs, peers })
    }

    /// The relay that is nothing else.
    pub(crate) fn lone_relay(&self) -> PathBuf {
        self.programs.join("lone-relay")
    }

    /// Where `cargo xtask bench .. --peers` builds the peers.
    pub(crate) fn peers(&self) -> &Path {
        &self.peers
    }

    /// A prefix with its topic, whose records the broker stamps when it appends them.
    pub(crate) async fn topic(&self, name: &str) -> Result<String> {
        let prefix = self.stack.topic_prefix(name);
        let physical = format!("{prefix}{}", TOPIC.name());
        let admin: AdminClient<DefaultClientContext> = client(self.stack.kafka()).create()?;
        let topic = NewTopic::new(&physical, PARTITIONS, TopicReplication::Fixed(1))
            .set("message.timestamp.type", "LogAppendTime");
        let options = AdminOptions::new().operation_timeout(Some(REQUEST_TIMEOUT));
        for result in admin.create_topics([&topic], &options).await? {
            result.map_err(|(topic, code)| anyhow::anyhow!("topic {topic} can't be created: {code}"))?;
        }
        Ok(prefix)
    }

    /// Removes a topic that was read; a full disk would slow what comes after.
    pub(crate) async fn forget(&self, prefix: &str) -> Result<()> {
        let physical = format!("{prefix}{}", TOPIC.name());
        let admin: AdminClient<DefaultClientContext> = client(self.stack.kafka()).create()?;
        admin.delete_topics(&[physical.as_str()], &AdminOptions::new()).await?;
        Ok(())
    }
}

impl Scene {
    /// A database with the contender's schema, the business table, and a topic.
    pub(crate) async fn new(ground: &Ground, contender: Contender, name: &str) -> Result<Self> {
        let database = ground.stack.database("bench").await?;
        // Without a ping before each transaction: it is no part of anyone's work.
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).test_before_acquire(false);
        let pool = pool.connect(database.url()).await?;
        contender.prepare(&pool).await.with_context(|| format!("the schema of {}", contender.name()))?;
        workload::prepare(&pool, contender).await.context("the business table")?;
        let prefix = ground.topic(name).await?;
        Ok(Self { contender, pool, prefix, database })
    }

    /// Starts the contender's relay on this database and waits until it says that it runs.
    pub(crate) async fn start(&self, ground: &Ground) -> Result<Process> {
        let (program, arguments) = self.contender.command(ground, self)?;
        Process::start(ground, self.contender.name(), &program, arguments).await
    }

    pub(crate) fn url(&self) -> &str {
        self.database.url()
    }

    pub(crate) fn database(&self) -> &str {
        self.database.name()
    }

    pub(crate) fn topic(&self) -> String {
        format!("{}{}", self.prefix, TOPIC.name())
    }

    /// The last committed version of each key that has one.
    pub(crate) async fn committed(&self) -> Result<HashMap<String, i64>> {
        let rows: Vec<(String, i64)> =
            sqlx::query_as("select id::text, version from bench.account where version > 0")
                .fetch_all(&self.pool)
                .await?;
        ensure!(!rows.is_empty(), "nothing was committed: there is nothing to measure");
        Ok(rows.into_iter().collect())
    }

    /// Drops database and topic.
    pub(crate) async fn drop(self, ground: &Ground) -> Result<()> {
        self.contender.clean(&self).await?;
        self.pool.close().await;
        self.database.drop_now().await?;
        ground.forget(&self.prefix).await
    }
}
