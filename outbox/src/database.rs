//! A way to a database on which nothing is waited for for ever.

use std::{
    future::Future,
    io,
    ops::{Deref, DerefMut},
    time::Duration,
};

use sqlx::{PgConnection, PgPool, Postgres, pool::PoolConnection};

use crate::Error;

/// The server ends a question at the bound; so much later it is plain that no answer comes at all.
const GRACE: Duration = Duration::from_secs(1);

/// How long a question of a gauge or of a gate may take in the database, and the begin of a transaction that says so.
pub(crate) const READ_MAX: Duration = Duration::from_secs(10);
pub(crate) const READ_BOUNDED: &str = "begin read only; set local statement_timeout = '10s'";

/// See the module. Clones share the connections.
#[derive(Clone)]
pub(crate) struct Database {
    pool: PgPool,
    query_timeout: Duration,
}

impl Database {
    /// `query_timeout`: the longest that the server works on a question.
    pub(crate) fn new(pool: PgPool, query_timeout: Duration) -> Self {
        Self { pool, query_timeout }
    }

    /// Has a connection answer a question within the bound. A network that drops all packets says nothing, and would be waited
    /// for for ever.
    pub(crate) async fn with<T, E: Into<Error>>(
        &self,
        question: impl AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
    ) -> Result<T, Error> {
        let asked = self.within(async {
            let mut line = self.acquire().await?;
            let answer = question(&mut line).await.map_err(Into::into)?;
            Ok(line.done(answer))
        });
        asked.await
    }

    /// A connection for a transaction, each of whose statements is heard within the bound.
    pub(crate) async fn line(&self) -> Result<Line, Error> {
        self.within(self.acquire()).await
    }

    async fn within<T>(&self, question: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        match tokio::time::timeout(self.most(), question).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Database(self.silence())),
        }
    }

    /// The answer to a statement on a [`Line`] within the bound.
    pub(crate) async fn hear<T>(&self, statement: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
        match tokio::time::timeout(self.most(), statement).await {
            Ok(answer) => answer,
            Err(_) => Err(self.silence()),
        }
    }

    fn most(&self) -> Duration {
        self.query_timeout + GRACE
    }

    fn silence(&self) -> sqlx::Error {
        io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {:?}", self.most())).into()
    }

    async fn acquire(&self) -> Result<Line, Error> {
        Ok(Line { connection: self.pool.acquire().await?, answered: false })
    }

    /// Closes all connections.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}

/// A connection that is closed, and not used again, unless its question was answered. Given back to its pool it would be asked
/// whether it is sound, and a silent one would stay there without an end.
pub(crate) struct Line {
    connection: PoolConnection<Postgres>,
    answered: bool,
}

impl Line {
    /// Gives the connection back, with the answer.
    pub(crate) fn done<T>(mut self, answer: T) -> T {
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
