//! Where an example happens: a database with an outbox and the roles that a real one has, and what the example said. Your
//! program makes these once, with your own addresses.

use outbox::{BoxError, Topic};
use sqlx::{AssertSqlSafe, PgPool, postgres::PgConnectOptions};
use stack::Database;

pub(crate) struct Place {
    database: Database,
    /// The database's owner: migrates and grants, nothing else.
    pub(crate) owner: PgPool,
    /// A module: publishes and runs handlers. Owns its own tables, has no right on a table of the outbox.
    pub(crate) module: PgPool,
    /// What a relay runs as.
    pub(crate) relay: PgPool,
    said: Vec<String>,
}

impl Place {
    /// A database of this example's own, whose module publishes as `shop.<name>` to `topics`.
    pub(crate) async fn new(name: &str, topics: &[Topic]) -> Result<Self, BoxError> {
        let stack = stack::shared().await?;
        let database = stack.database(name).await?;
        let owner = PgPool::connect(database.url()).await?;
        outbox::migrate(&owner).await?;
        let login = async |role: &str| {
            let create = format!("create role {role} login password 'example'");
            sqlx::query(AssertSqlSafe(create)).execute(&owner).await?;
            let options = database.url().parse::<PgConnectOptions>()?.username(role).password("example");
            Ok::<_, BoxError>(PgPool::connect_with(options).await?)
        };
        let (module, relay) = (format!("{}_module", database.name()), format!("{}_relay", database.name()));
        let pools = (login(&module).await?, login(&relay).await?);
        outbox::grant_module(&owner, &module, &format!("shop.{name}"), topics).await?;
        outbox::grant_replica(&owner, &module).await?;
        outbox::grant_relay(&owner, &relay).await?;
        let schema = format!("create schema shop authorization {module}");
        sqlx::query(AssertSqlSafe(schema)).execute(&owner).await?;
        Ok(Self { database, owner, module: pools.0, relay: pools.1, said: Vec::new() })
    }

    /// Prints a line and remembers it.
    pub(crate) fn say(&mut self, line: impl Into<String>) {
        let line = line.into();
        println!("{line}");
        self.said.push(line);
    }

    /// Asserts what was said and takes the place down.
    pub(crate) async fn end(self, wanted: &[&str]) -> Result<(), BoxError> {
        assert_eq!(self.said, wanted);
        for pool in [self.owner, self.module, self.relay] {
            pool.close().await;
        }
        Ok(self.database.drop_now().await?)
    }
}
