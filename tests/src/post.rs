//! A database with nothing but an outbox in it, for stories about the outbox alone.

use anyhow::Result;
use outbox::kafka;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection, PgConnection, PgPool};
use stack::Stack;
use url::Url;

use crate::{World, store};

/// Connections of each role.
const CONNECTIONS_MAX: u32 = 24;

/// The database, with one role that publishes and one that relays.
pub struct Post {
    /// The superuser's pool.
    pub admin: PgPool,
    /// The publishing module's pool; its origin is `test.module`.
    pub module: PgPool,
    /// The relay's pool.
    pub relay: PgPool,
    /// The relay's address, for a relay in another process.
    pub relay_url: String,
}

impl Post {
    /// Makes the database, its schema `outbox` and the two roles; the module may publish to `topics`.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn open(world: &World, stack: &Stack, name: &str, topics: &[outbox::Topic]) -> Result<Self> {
        let (url, admin) = world.database(stack, name).await?;
        outbox::migrate(&admin).await?;
        let mut connection = PgConnection::connect(&url).await?;
        let module_url = login(&mut connection, &url, "module").await?;
        let relay_url = login(&mut connection, &url, "relay").await?;
        outbox::grant_module(&admin, module_url.username(), "test.module", topics).await?;
        outbox::grant_relay(&admin, relay_url.username()).await?;
        let pool = async |url: &Url| {
            PgPoolOptions::new().max_connections(CONNECTIONS_MAX).connect(url.as_str()).await
        };
        Ok(Self {
            admin,
            module: pool(&module_url).await?,
            relay: pool(&relay_url).await?,
            relay_url: relay_url.into(),
        })
    }

    /// Events that are not delivered.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn pending(&self) -> Result<i64> {
        store::pending(&self.admin).await
    }

    /// Creates this world's topics.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn topics(world: &World, topics: &[outbox::Topic], partitions: i32) -> Result<()> {
        Ok(kafka::create_topics(&world.kafka().transport("tests"), topics, partitions).await?)
    }
}

/// Creates the role `<database>_<suffix>` and returns its address of the database.
async fn login(connection: &mut PgConnection, url: &str, suffix: &str) -> Result<Url> {
    let url = role_url(url, suffix)?;
    store::create_role(connection, url.username(), url.password().unwrap_or_default()).await?;
    Ok(url)
}

/// A superuser's address turned into that of the role `<database>_<suffix>`, with a password of its own.
pub(crate) fn role_url(url: &str, suffix: &str) -> Result<Url> {
    let mut url = Url::parse(url)?;
    let role = format!("{}_{suffix}", url.path().trim_start_matches('/'));
    let password = uuid::Uuid::new_v4().simple().to_string();
    let refused = |()| anyhow::anyhow!("{url} can't name a user", url = "the database's address");
    url.set_username(&role).map_err(refused)?;
    url.set_password(Some(&password)).map_err(refused)?;
    Ok(url)
}
