//! Migrations of one schema, with bookkeeping of their own: `<schema>._migrations`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, PgPool};

use crate::database::unreachable;
use crate::role::quoted;

/// The migrations of one schema: `Migrations::new("orders", &MIGRATOR)` with a
/// `static MIGRATOR: Migrator = sqlx::migrate!()`.
#[derive(Debug)]
pub struct Migrations {
    schema: &'static str,
    migrator: Migrator,
}

/// Migrating failed; the schema is as the last migration that succeeded left it.
#[derive(Debug, thiserror::Error)]
#[error("schema {schema} could not be migrated")]
pub struct Error {
    schema: &'static str,
    source: MigrateError,
}

/// What the bookkeeping table says of one version.
#[derive(sqlx::FromRow)]
struct Applied {
    version: i64,
    success: bool,
    checksum: Vec<u8>,
}

impl Migrations {
    /// Takes the migrations of a folder. The schema is created before the first one runs.
    pub fn new(schema: &'static str, migrator: &'static Migrator) -> Self {
        let mut migrator = Migrator { migrations: Cow::Borrowed(&*migrator.migrations), ..Migrator::DEFAULT };
        migrator.dangerous_set_table_name(table(schema));
        migrator.create_schema(quoted(schema));
        Self { schema, migrator }
    }

    /// The schema.
    pub fn schema(&self) -> &'static str {
        self.schema
    }

    /// Brings the schema up to date. Two calls at once wait for each other (an advisory lock for the
    /// whole database). Needs the rights of the database's owner.
    ///
    /// # Errors
    /// When a migration fails, when an applied one was changed, or when the database has one that is not
    /// ours.
    pub async fn apply(&self, admin: &PgPool) -> Result<(), Error> {
        let failed = |source| Error { schema: self.schema, source };
        // A connection of its own, closed at the end: the advisory lock goes with it, however this ends.
        let mut connection = admin.acquire().await.map_err(|error| failed(error.into()))?.detach();
        let result = self.migrator.run_direct(None, &mut connection, false).await;
        close(connection).await;
        result.map_err(failed)
    }

    /// Lets a role read the bookkeeping, which is all that [`Migrations::verify`] needs.
    ///
    /// # Errors
    /// When the role does not exist, or the schema is not migrated.
    pub async fn readable_by(&self, admin: &PgPool, role: &str) -> Result<(), sqlx::Error> {
        grant_usage(admin, self.schema, role).await?;
        grant_select(admin, self.schema, role).await
    }

    /// Whether the schema is exactly what this program was built for. For a readiness check; the role
    /// needs to read the bookkeeping table only.
    ///
    /// # Errors
    /// A reason for an operator, such as `pending migration 3`.
    pub async fn verify(&self, pool: &PgPool) -> Result<(), String> {
        let applied = match applied(pool, self.schema).await {
            Ok(applied) => applied,
            Err(error) => return Err(self.unreadable(&error)),
        };
        self.compare(&applied).map_err(|reason| format!("schema {}: {reason}", self.schema))
    }

    fn compare(&self, applied: &[Applied]) -> Result<(), String> {
        let ours = || self.migrator.iter().filter(|migration| !migration.migration_type.is_down_migration());
        let mut known: BTreeMap<i64, &[u8]> = ours().map(|it| (it.version, &*it.checksum)).collect();
        if applied.is_empty() && !known.is_empty() {
            return Err("no migrations of ours".to_owned());
        }
        for Applied { version, success, checksum } in applied {
            match known.remove(version) {
                None => return Err(format!("unknown migration {version}")),
                Some(_) if !success => return Err(format!("unfinished migration {version}")),
                Some(ours) if ours != checksum => {
                    return Err(format!("checksum differs at migration {version}"));
                }
                Some(_) => {}
            }
        }
        known.first_key_value().map_or(Ok(()), |(version, _)| Err(format!("pending migration {version}")))
    }

    fn unreadable(&self, error: &sqlx::Error) -> String {
        let code = error.as_database_error().and_then(|error| error.code());
        match code.as_deref() {
            // undefined_table, invalid_schema_name
            Some("42P01" | "3F000") => format!("schema {}: no migrations of ours", self.schema),
            // insufficient_privilege
            Some("42501") => format!("schema {}: this role may not read {}", self.schema, table(self.schema)),
            _ => unreachable(error),
        }
    }
}

/// Does work on a database's schemas and rights while nobody else does: a second caller waits. Two grants on one table at
/// once would fail ("tuple concurrently updated").
///
/// # Errors
/// When the database does not answer; then the work was not begun.
pub async fn exclusively<T>(admin: &PgPool, work: impl Future<Output = T>) -> Result<T, sqlx::Error> {
    // A connection of its own, closed at the end: the lock goes with it, however this ends.
    let mut connection = admin.acquire().await?.detach();
    lock(&mut connection).await?;
    let done = work.await;
    close(connection).await;
    Ok(done)
}

fn table(schema: &str) -> String {
    format!("{}._migrations", quoted(schema))
}

/// The advisory lock is released by the server when the connection ends, so a failed farewell is enough.
async fn close(connection: PgConnection) {
    if let Err(error) = connection.close().await {
        tracing::debug!(%error, "the migration's connection was already gone");
    }
}

/// Held until the connection ends. Another key than the one sqlx takes for each schema's migrations.
async fn lock(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let lock = sqlx::query("select pg_advisory_lock(hashtext('banyan.migrate'))");
    lock.execute(connection).await.map(drop)
}

async fn applied(pool: &PgPool, schema: &str) -> Result<Vec<Applied>, sqlx::Error> {
    let sql = format!("select version, success, checksum from {} order by version", table(schema));
    sqlx::query_as(AssertSqlSafe(sql)).fetch_all(pool).await
}

async fn grant_usage(admin: &PgPool, schema: &str, role: &str) -> Result<(), sqlx::Error> {
    let sql = format!("grant usage on schema {} to {}", quoted(schema), quoted(role));
    sqlx::query(AssertSqlSafe(sql)).execute(admin).await.map(drop)
}

async fn grant_select(admin: &PgPool, schema: &str, role: &str) -> Result<(), sqlx::Error> {
    let sql = format!("grant select on {} to {}", table(schema), quoted(role));
    sqlx::query(AssertSqlSafe(sql)).execute(admin).await.map(drop)
}
