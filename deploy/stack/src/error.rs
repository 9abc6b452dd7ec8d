//! What can go wrong with a stack.

use std::time::Duration;

use crate::Choice;

/// Why there is no stack, or why it did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Every source was tried and none worked; the text names each, its reason and its remedy.
    #[error("no PostgreSQL and Kafka to be had; one of these three is enough:{0}")]
    Nothing(String),
    /// The one source that was asked for does not work.
    #[error("the stack `{choice}` does not work: {reason}\n  to get it: {}", choice.remedy())]
    Unusable {
        /// The source that was asked for.
        choice: Choice,
        /// Why it does not work.
        reason: String,
    },
    /// A setting has a value that is not allowed.
    #[error("{variable}=`{value}` is not allowed: {allowed}")]
    Setting {
        /// The environment variable.
        variable: &'static str,
        /// Its value.
        value: String,
        /// What may stand there.
        allowed: &'static str,
    },
    /// A source lacks something; becomes the reason in [`Error::Unusable`] and [`Error::Nothing`].
    #[error("{0}")]
    Missing(String),
    /// A program ended in failure or too early.
    #[error("{program} failed ({status}){log}")]
    Program {
        /// The program's name.
        program: String,
        /// How it ended.
        status: String,
        /// The last lines it wrote, or nothing.
        log: String,
    },
    /// A bounded wait ran out.
    #[error("{what} took longer than {} s{last}", bound.as_secs())]
    Timeout {
        /// What was waited for.
        what: String,
        /// The bound that ran out.
        bound: Duration,
        /// What was seen last, or nothing.
        last: String,
    },
    /// A file, folder or process could not be handled.
    #[error("cannot {what}: {source}")]
    Io {
        /// The attempt, with its path.
        what: String,
        /// Why not.
        source: std::io::Error,
    },
    /// PostgreSQL refused something.
    #[error("PostgreSQL cannot {what}: {source}")]
    Database {
        /// The attempt.
        what: String,
        /// Why not.
        source: sqlx::Error,
    },
    /// Kafka refused something.
    #[error("Kafka cannot {what}: {source}")]
    Kafka {
        /// The attempt.
        what: String,
        /// Why not.
        source: rdkafka::error::KafkaError,
    },
    /// The Docker engine refused something.
    #[error("the Docker engine cannot {what}: {reason}")]
    Docker {
        /// The attempt.
        what: String,
        /// Why not.
        reason: String,
    },
    /// Teardown left something behind.
    #[error("the stack's guard could not clean up everything: {0}")]
    Left(String),
    /// This process tried before and failed; trying again for each test would only take time.
    #[error("{0}")]
    Earlier(String),
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    pub(crate) fn database(what: impl Into<String>) -> impl FnOnce(sqlx::Error) -> Self {
        let what = what.into();
        move |source| Self::Database { what, source }
    }

    pub(crate) fn kafka(what: impl Into<String>) -> impl FnOnce(rdkafka::error::KafkaError) -> Self {
        let what = what.into();
        move |source| Self::Kafka { what, source }
    }
}
