//! The relay's way to its database: connections of its own, and a bound on every question.

use std::{
    future::Future,
    io,
    ops::{Deref, DerefMut},
    time::Duration,
};

use sqlx::{Connection as _, PgConnection, PgPool, Postgres, pool::PoolConnection};

use super::RelayOptions;
use crate::Error;

/// The server ends a question at the bound; so much later it is plain that no answer comes at all.
const GRACE: Duration = Duration::from_secs(1);

/// See the module. Clones share the connections.
#[derive(Clone)]
pub(super) struct Database {
    pool: PgPool,
    query_timeout: Duration,
}

impl Database {
    /// With connections of its own, opened as `pool` opens them.
    pub(super) fn own(pool: &PgPool, options: &RelayOptions) -> Self {
        let query_timeout = options.query_timeout;
        Self { pool: own_pool(pool, options.connections_max, query_timeout), query_timeout }
    }

    /// Answers a question within the bound. A network that drops all packets says nothing, and would be waited for for ever.
    pub(super) async fn ask<T>(&self, question: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let most = self.query_timeout + GRACE;
        tokio::time::timeout(most, question).await.unwrap_or_else(|_| {
            let silent = io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {most:?}"));
            Err(Error::Database(silent.into()))
        })
    }

    /// A connection, to be used within [`Database::ask`].
    pub(super) async fn line(&self) -> Result<Line, Error> {
        Ok(Line { connection: self.pool.acquire().await?, answered: false })
    }

    /// Closes all connections.
    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

/// A connection that is closed, and not used again, unless its question was answered.
pub(super) struct Line {
    connection: PoolConnection<Postgres>,
    answered: bool,
}

impl Line {
    /// Gives the connection back, with the answer.
    pub(super) fn done<T>(mut self, answer: T) -> T {
        self.answered = true;
        answer
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.answered {
            self.connection.close_on_drop();
        }
    }
}

impl Deref for Line {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Line {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

/// A connection that has answered this lately is not asked whether it still does.
const FRESH: Duration = Duration::from_secs(1);

/// Connections of the relay's own. All it asks are look-ups by index, and a plan that was made while a table was empty must
/// not read it whole later; so the other plans are switched off. Its commits need not wait for the disk: what is lost with
/// them is sent again.
pub(super) fn own_pool(pool: &PgPool, connections_max: u32, query_timeout: Duration) -> PgPool {
    let settings = [
        ("enable_seqscan", "off"),
        ("enable_bitmapscan", "off"),
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
        ("max_parallel_workers_per_gather", "0"),
        ("jit", "off"),
        ("synchronous_commit", "off"),
        ("statement_timeout", &format!("{}ms", query_timeout.as_millis())),
    ];
    let options = (*pool.connect_options()).clone().options(settings);
    pool.options()
        .clone()
        .min_connections(0)
        .max_connections(connections_max.max(1))
        .test_before_acquire(false)
        .before_acquire(|connection, used| {
            Box::pin(async move {
                if used.idle_for > FRESH {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_lazy_with(options)
}
