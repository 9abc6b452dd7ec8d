//! The pool: every connection bounded by timeouts, named, and checked before it is lent.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{PgPool, Row as _};

use crate::setting::Url;

/// The bounds of a pool.
#[derive(Debug, Clone)]
pub struct PoolOptions {
    /// Shown by `pg_stat_activity`: the process and module.
    pub application_name: String,
    /// The most connections; a request beyond them waits for `acquire_timeout`.
    pub connections_max: u32,
    /// How long a request waits for a connection. Default 5 s.
    pub acquire_timeout: Duration,
    /// How long one statement may run. Default 30 s.
    pub statement_timeout: Duration,
    /// How long a transaction may wait for its client. Default 10 s: a process that hangs must not hold
    /// locks for long.
    pub idle_in_transaction_timeout: Duration,
    /// How long a statement waits for a lock. Default: as long as it may run.
    pub lock_timeout: Option<Duration>,
}

impl PoolOptions {
    /// The default bounds.
    pub fn new(application_name: impl Into<String>, connections_max: u32) -> Self {
        Self {
            application_name: application_name.into(),
            connections_max,
            acquire_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            idle_in_transaction_timeout: Duration::from_secs(10),
            lock_timeout: None,
        }
    }
}

/// A pool that connects when it is first used, so that a process starts (not ready) while its database
/// is away.
///
/// # Errors
/// When the URL has an option that PostgreSQL connections don't know.
pub fn pool(url: &Url, options: &PoolOptions) -> Result<PgPool, sqlx::Error> {
    let connect = PgConnectOptions::from_str(url.expose())?
        .application_name(&options.application_name)
        .options(session_settings(options));
    let pool = PgPoolOptions::new()
        .max_connections(options.connections_max)
        .acquire_timeout(options.acquire_timeout)
        // `before_acquire` makes its own round trip, so that one is enough.
        .test_before_acquire(false)
        .before_acquire(|connection, _| Box::pin(is_clean(connection)))
        .connect_lazy_with(connect);
    Ok(pool)
}

/// For a readiness check: does the database answer?
///
/// # Errors
/// A reason for an operator; the database's own text goes to the log.
pub async fn ping(pool: &PgPool) -> Result<(), String> {
    match select_one(pool).await {
        Ok(()) => Ok(()),
        Err(error) => Err(unreachable(&error)),
    }
}

/// Logs the database's own text and returns what an operator may read on the admin port.
pub(crate) fn unreachable(error: &sqlx::Error) -> String {
    tracing::warn!(%error, "a readiness check could not ask the database");
    match error {
        sqlx::Error::PoolTimedOut => "no connection became free in time".to_owned(),
        _ => "the database can't be asked; see the log".to_owned(),
    }
}

fn session_settings(options: &PoolOptions) -> Vec<(&'static str, String)> {
    let millis = |duration: Duration| format!("{}ms", duration.as_millis());
    let mut settings = vec![
        ("statement_timeout", millis(options.statement_timeout)),
        ("idle_in_transaction_session_timeout", millis(options.idle_in_transaction_timeout)),
    ];
    settings.extend(options.lock_timeout.map(|timeout| ("lock_timeout", millis(timeout))));
    settings
}

async fn select_one(pool: &PgPool) -> Result<(), sqlx::Error> {
    sqlx::query("select 1").execute(pool).await.map(drop)
}

/// Whether no transaction is open on an idle connection. A `begin()` that is cancelled while it waits for
/// its answer goes back to the pool with the transaction open, and sqlx does not know of it: the next
/// borrower's plain statements would then vanish with a rollback that nobody sees. Such a connection is
/// closed.
async fn is_clean(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let clean = no_transaction_open(connection).await?;
    if !clean {
        tracing::info!("closed a connection with a transaction left open by a cancelled begin");
    }
    Ok(clean)
}

/// Sent by the simple protocol, where a statement outside a transaction starts its own in the same
/// instant, so that both times are equal; inside one, `now()` is the time of its `begin`. In a failed
/// transaction this is an error, which closes the connection too.
async fn no_transaction_open(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    use sqlx::Executor as _;
    connection.fetch_one(sqlx::raw_sql("select now() = statement_timestamp()")).await?.try_get(0)
}
