//! Telling a handler's verdict from a database that could not run it.

use std::{error::Error as StdError, fmt::Write as _};

use crate::BoxError;

/// Whether trying again may help by itself: the connection, the pool or the server failed, or the transaction lost against
/// another one. PostgreSQL's error classes: 08 connection, 40 rollback, 53 resources, 57 intervention; 25006 read-only
/// (a failover), 25P03 idle in transaction, 55P03 lock timeout.
pub(crate) fn is_passing(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(e) => e.code().is_some_and(|code| {
            matches!(code.get(..2), Some("08" | "40" | "53" | "57"))
                || matches!(code.as_ref(), "25006" | "25P03" | "55P03")
        }),
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => true,
        _ => false,
    }
}

/// The same for what a handler returned: looks for a database error anywhere in its chain. A statement of the handler's that
/// was cancelled (57014: it took longer than `statement_timeout`) is its own affair, like a handler that takes too long: with
/// no attempt counted, one that can never end in time would be tried for ever.
pub(crate) fn is_passing_in(error: &BoxError) -> bool {
    database_in(error).is_some_and(|error| !is_cancelled(error) && is_passing(error))
}

/// Whether a statement of the handler's took too long.
pub(crate) fn is_cancelled_in(error: &BoxError) -> bool {
    database_in(error).is_some_and(is_cancelled)
}

fn database_in(error: &BoxError) -> Option<&sqlx::Error> {
    let mut at: Option<&(dyn StdError + 'static)> = Some(&**error);
    while let Some(error) = at {
        if let Some(database) = error.downcast_ref::<sqlx::Error>() {
            return Some(database);
        }
        at = error.source();
    }
    None
}

/// Whether the database did not answer at all. That is not the doing of one event: all of them would wait as long.
pub(crate) fn is_silence(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() == std::io::ErrorKind::TimedOut,
        sqlx::Error::PoolTimedOut => true,
        _ => false,
    }
}

/// Whether a statement took longer than `statement_timeout`.
pub(crate) fn is_cancelled(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).as_deref() == Some("57014")
}

/// What a handler's run came to: its own answer, or a panic, or no end in time.
type Ran<T> = Result<std::thread::Result<Result<T, BoxError>>, tokio::time::error::Elapsed>;

/// Why a handler's run failed, for its span.
pub(crate) fn failure<T>(ran: &Ran<T>) -> Option<String> {
    match ran {
        Ok(Ok(Ok(_))) => None,
        Ok(Ok(Err(error))) => Some(chain(&**error)),
        Ok(Err(_)) => Some("it panicked".into()),
        Err(_) => Some("it took too long".into()),
    }
}

/// An error with its sources, on one line.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut at = error.source();
    while let Some(source) = at {
        // Writing to a String can't fail.
        let _ = write!(text, ": {source}");
        at = source.source();
    }
    // PostgreSQL stores no NUL in text.
    text.replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_connection_is_found_in_the_chain() {
        let io = sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into());
        assert!(is_passing_in(&(Box::new(crate::Error::Database(io)) as BoxError)));
        assert!(!is_passing_in(&BoxError::from("the amount is negative")));
        assert!(!is_passing_in(&(Box::new(sqlx::Error::RowNotFound) as BoxError)));
    }
}
