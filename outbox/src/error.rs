//! What can go wrong.

/// An error of any type, as handlers return it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The event breaks a rule of the contract (topic, key, kind, size, headers); nothing was written. The transaction is
    /// aborted and must be rolled back.
    #[error("event {kind} with key {key:?} was refused by the outbox: {reason}")]
    Invalid {
        /// The event's kind.
        kind: String,
        /// The event's key.
        key: String,
        /// The rule with its limit, such as `the key has 300 bytes; 1 to 255 are allowed`.
        reason: String,
    },
    /// A call of [`crate::publish_all`] was over its bounds; nothing was written, the transaction can go on.
    #[error(
        "{events} events with {bytes} payload bytes or more are too many for one call; at most {events_max} events and {bytes_max} bytes"
    )]
    BatchTooLarge {
        /// Events in the call.
        events: usize,
        /// Payload bytes up to the one that was too many; 0 when the events alone were.
        bytes: usize,
        /// The bound, [`crate::BATCH_MAX`].
        events_max: usize,
        /// The bound, [`crate::BATCH_BYTES_MAX`].
        bytes_max: usize,
    },
    /// The log has no day for now, so nothing can be published: for two weeks nobody has kept house, run a relay or migrated, or
    /// their housekeeping failed and its errors were not seen.
    /// The transaction is aborted and must be rolled back.
    #[error(
        "the outbox's log has no day for now: run `select outbox.make_partitions(14)` as its owner, and see in a relay's log why none was made"
    )]
    NoDay,
    /// The event could not be encoded.
    #[error("event {kind} could not be encoded")]
    Encode {
        /// The event's kind.
        kind: String,
        /// Why.
        source: BoxError,
    },
    /// The role may not do this; `outbox.grant_module` or `outbox.grant_relay` gives the right.
    #[error("the database refused: {0}")]
    Denied(String),
    /// What an operator asked for can't be done as asked; nothing was changed.
    #[error("refused: {0}")]
    Refused(String),
    /// The database failed.
    #[error("the outbox's database failed")]
    Database(#[source] sqlx::Error),
    /// The migrations could not be applied.
    #[error("the outbox's migrations failed")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// The message broker failed, or was configured in a way it does not accept.
    #[error("the broker failed: {0}")]
    Broker(String),
    /// The position a consumer group had reached is no longer in the log, so events may be missing. Someone must decide.
    #[error("group {group} lost its place in {topic}[{partition}]: {reason}")]
    OffsetLost {
        /// The consumer group.
        group: String,
        /// The topic, with its prefix.
        topic: String,
        /// The partition.
        partition: i32,
        /// What was found.
        reason: String,
    },
    /// The program put an inbox together in a way that would lose or share events; it says which.
    #[error("the inbox can't run like this: {0}")]
    Setup(String),
    /// Another process took this member's place for good: two with one `instance_id`. This one can't read again.
    #[error("group {group}: {reason}")]
    Fenced {
        /// The consumer group.
        group: String,
        /// The broker's words.
        reason: String,
    },
    /// The database is behind the log it wrote: an event of its own has a version that its head never reached.
    #[error(
        "the database went back in time: {topic}/{key} has head {head}, but its own version {version} is in the log"
    )]
    WentBack {
        /// The logical topic.
        topic: String,
        /// The key.
        key: String,
        /// The head's version here.
        head: i64,
        /// The version in the log.
        version: i64,
    },
    /// More events wait before their turn than `parked_max`; the consumer stops rather than drop one.
    #[error("handler {handler} has {parked_max} events parked: the consumer waits until some are applied")]
    ParkedFull {
        /// The handler.
        handler: String,
        /// The bound.
        parked_max: i32,
    },
    /// A [`crate::Refill`] could not reach the log it asks.
    #[error("the log could not be asked: {0}")]
    Log(String),
    /// This can't be done with this event; nothing was changed.
    #[error("{0}")]
    Unfit(String),
    /// What an operator does needs a name and a reason.
    #[error("the {what} of an operator's action is empty or longer than {max} bytes")]
    Unexplained {
        /// `actor` or `reason`.
        what: &'static str,
        /// The most bytes it may have.
        max: usize,
    },
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let denied = error.as_database_error().filter(|e| e.code().as_deref() == Some("42501"));
        match denied {
            Some(e) => Error::Denied(e.message().to_owned()),
            None => Error::Database(error),
        }
    }
}
