//! Where an inbox reads from.

use async_trait::async_trait;

use crate::{Error, Topic};

/// One record as it was read.
#[derive(Debug, Clone)]
pub struct Message {
    /// The logical topic.
    pub topic: String,
    /// The partition it was in.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// The raw key.
    pub key: Option<Vec<u8>>,
    /// The raw payload; empty for a record without one.
    pub payload: Vec<u8>,
    /// The headers; a value that is not text is kept as lossy text.
    pub headers: Vec<(String, String)>,
}

/// A partition, as one consumer group sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: i32,
    /// Whether the group has a position in it.
    pub positioned: bool,
}

/// A log, as one consumer group sees it.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// The group's name, with the transport's prefix.
    fn group(&self) -> &str;

    /// All partitions of `topics`. The caller answers with [`Source::start`].
    async fn places(&self, topics: &[Topic]) -> Result<Vec<Place>, Error>;

    /// Starts to read. Where the group has no position, from the beginning of the log.
    async fn start(&self, topics: &[Topic], places: &[Place]) -> Result<(), Error>;

    /// The next record; waits for one. Cancel safe.
    ///
    /// # Errors
    /// [`Error::OffsetLost`] when the group's position is no longer in the log; [`Error::Fenced`] when this member can never
    /// read again; [`Error::Broker`] for a passing fault.
    async fn recv(&self) -> Result<Message, Error>;

    /// Notes that a record is dealt with: the group's position may pass it.
    fn done(&self, message: &Message) -> Result<(), Error>;
}
