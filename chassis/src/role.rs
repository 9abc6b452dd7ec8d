//! Database roles for modules: each logs in under its own name.

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgPool};

use crate::setting::Url;

/// How often a change of a role is tried when another session changes the same row of the catalog.
const ATTEMPTS_MAX: u32 = 20;

/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(25);

/// A role could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL lacks a user name or a password.
    #[error("{0} names no user and password; write postgres://user:password@host/db")]
    Nameless(Url),
    /// The database refused.
    #[error("role {role} could not be created or changed")]
    Database {
        /// The role.
        role: String,
        /// The database's answer.
        source: sqlx::Error,
    },
}

/// Makes sure that the user of `url` exists as a login role with the URL's password. May be called again
/// and by several processes at once; roles belong to the whole cluster, so an advisory lock, which belongs
/// to one database, would not help.
///
/// # Errors
/// [`Error::Nameless`] when the URL has no user or password, else the database's answer.
pub async fn ensure_role(admin: &PgPool, url: &Url) -> Result<(), Error> {
    let role = url.username();
    let password = url.password().filter(|_| !role.is_empty()).ok_or_else(|| Error::Nameless(url.clone()))?;
    let mut attempt = 1;
    loop {
        match ensure(admin, &role, password.expose()).await {
            Err(error) if is_race(&error) && attempt < ATTEMPTS_MAX => attempt += 1,
            Err(source) => return Err(Error::Database { role, source }),
            Ok(()) => return Ok(()),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Makes sure that whoever migrates can change what the role owns: a superuser can, anyone else becomes a member.
///
/// # Errors
/// The database's answer, for a role that does not exist or is not the caller's to grant.
pub async fn ensure_member(admin: &PgPool, role: &str) -> Result<(), Error> {
    let refused = |source| Error::Database { role: role.to_owned(), source };
    if is_member(admin, role).await.map_err(refused)? {
        return Ok(());
    }
    let sql = format!("grant {} to current_user", quoted(role));
    sqlx::query(AssertSqlSafe(sql)).execute(admin).await.map(drop).map_err(refused)
}

/// An SQL identifier in quotes.
pub fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

async fn ensure(admin: &PgPool, role: &str, password: &str) -> Result<(), sqlx::Error> {
    let verb = if exists(admin, role).await? { "alter" } else { "create" };
    let sql = statement(admin, verb, role, password).await?;
    sqlx::query(AssertSqlSafe(sql)).execute(admin).await.map(drop)
}

async fn exists(admin: &PgPool, role: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select exists (select from pg_roles where rolname = $1)")
        .bind(role)
        .fetch_one(admin)
        .await
}

async fn is_member(admin: &PgPool, role: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select pg_has_role($1::name, 'usage')").bind(role).fetch_one(admin).await
}

/// Utility statements take no parameters, so PostgreSQL itself does the quoting.
async fn statement(admin: &PgPool, verb: &str, role: &str, password: &str) -> Result<String, sqlx::Error> {
    let sql = "select format('%s role %I with login password %L', $1::text, $2::text, $3::text)";
    sqlx::query_scalar(sql).bind(verb).bind(role).bind(password).fetch_one(admin).await
}

/// Another session was faster: `duplicate_object`, `unique_violation` on the catalog's index, a role that
/// was dropped meanwhile, or `tuple concurrently updated`, which has no code of its own.
fn is_race(error: &sqlx::Error) -> bool {
    let Some(error) = error.as_database_error() else { return false };
    match error.code().as_deref() {
        Some("42710" | "23505" | "42704") => true,
        Some("XX000") => error.message().starts_with("tuple concurrently"),
        _ => false,
    }
}
