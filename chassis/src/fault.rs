//! What a client reads when the database fails: never the database's own text.

use std::error::Error;
use std::time::Duration;

use crate::problem::Problem;

/// When a client may try again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Whether the same work may succeed when it is repeated: no connection, a lock or time limit, a deadlock, a
/// serialization failure, a server that ends or starts.
pub fn is_passing(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::PoolTimedOut | sqlx::Error::Io(_) | sqlx::Error::Tls(_) => true,
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default();
            // Class 08: connection; 53: resources; 57: operator intervention, statement_timeout among them.
            matches!(&*code, "40001" | "40P01" | "55P03" | "25P03" | "25P04")
                || ["08", "53", "57"].iter().any(|class| code.starts_with(class))
        }
        _ => false,
    }
}

/// The answer to a request whose work failed; the cause goes to the log. 503 when a passing fault of the database is
/// anywhere in the chain of sources, else 500.
pub fn problem(error: &(dyn Error + 'static)) -> Problem {
    let cause = chain(error);
    if sources(error).filter_map(|error| error.downcast_ref::<sqlx::Error>()).any(is_passing) {
        tracing::warn!(cause, "the database could not serve a request");
        return Problem::unavailable("the database is busy or away; repeat the same request", RETRY_AFTER);
    }
    tracing::error!(cause, "a request failed");
    Problem::internal()
}

/// The error and its sources in one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let texts: Vec<String> = sources(error).map(ToString::to_string).collect();
    texts.join(": ")
}

/// The error, its source, the source of that, and so on.
fn sources<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let next = |error: &&'a (dyn Error + 'static)| (*error).source();
    std::iter::successors(Some(error), next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_connection_is_for_later_and_a_slip_of_ours_is_not() {
        assert_eq!(problem(&sqlx::Error::PoolTimedOut).status, 503);
        assert_eq!(problem(&sqlx::Error::RowNotFound).status, 500);
    }
}
