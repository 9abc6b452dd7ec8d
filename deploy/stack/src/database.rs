//! A database of one's own, for a test or a run.

use std::time::Duration;

use sqlx::{Connection, PgConnection};

use crate::{Error, store, url};

/// How long a database that was forgotten may hold up the thread that drops it.
const DROP_TIMEOUT: Duration = Duration::from_secs(10);
/// PostgreSQL cuts names after 63 bytes; 8 random digits, two underscores and a role's suffix need room.
const NAME_MAX: usize = 30;

/// An empty database on the stack's server.
///
/// [`Database::drop_now`] removes it together with its sessions and with the roles that were made for it, those
/// named `<database>_..`. A database that goes out of scope otherwise, for instance in a panic, is removed then.
#[derive(Debug)]
pub struct Database {
    server: String,
    name: String,
    url: String,
    dropped: bool,
}

impl Database {
    /// Creates `banyan_<name>_<8 random hex digits>`.
    pub(crate) async fn create(server: &str, name: &str) -> Result<Self, Error> {
        let word: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' })
            .take(NAME_MAX)
            .collect();
        let name = format!("banyan_{word}_{}", suffix());
        let mut connection = connect(server).await?;
        store::create_database(&mut connection, &name)
            .await
            .map_err(Error::database(format!("create database {name}")))?;
        let url = url::with_database(server, &name);
        Ok(Self { server: server.to_owned(), name, url, dropped: false })
    }

    /// Its name; roles made for it start with this and an underscore.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A superuser's address of it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ends all sessions, drops the database, then its roles.
    pub async fn drop_now(mut self) -> Result<(), Error> {
        self.dropped = true;
        remove(&self.server, &self.name).await
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if self.dropped {
            return;
        }
        let (server, name) = (std::mem::take(&mut self.server), std::mem::take(&mut self.name));
        // A runtime of its own on a thread of its own: we may be inside one that is unwinding.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                match tokio::time::timeout(DROP_TIMEOUT, remove(&server, &name)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::warn!(%error, name, "a database stays behind"),
                    Err(_) => tracing::warn!(name, "a database stays behind: dropping it took too long"),
                }
            });
            Ok::<_, std::io::Error>(())
        });
        let _ = dropping.join();
    }
}

/// Eight random hexadecimal digits.
pub(crate) fn suffix() -> String {
    format!("{:08x}", rand::random::<u32>())
}

async fn connect(server: &str) -> Result<PgConnection, Error> {
    PgConnection::connect(server)
        .await
        .map_err(Error::database(format!("be reached at {}", url::masked(server))))
}

async fn remove(server: &str, name: &str) -> Result<(), Error> {
    let mut connection = connect(server).await?;
    store::drop_database(&mut connection, name)
        .await
        .map_err(Error::database(format!("drop database {name}")))?;
    let roles = store::roles_of(&mut connection, name).await.map_err(Error::database("list its roles"))?;
    for role in roles {
        store::drop_role(&mut connection, &role)
            .await
            .map_err(Error::database(format!("drop role {role}")))?;
    }
    Ok(())
}
