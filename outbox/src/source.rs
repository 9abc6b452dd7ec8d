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

impl Message {
    /// The version in its key's stream, as its headers say; `None` when they say none.
    pub fn version(&self) -> Option<i64> {
        let (_, version) = self.headers.iter().find(|(name, _)| name == "banyan-version")?;
        version.parse().ok()
    }
}

/// A partition, as one consumer group sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: i32,
    /// The offset that the group reads next; `None` while it has no position there.
    pub position: Option<i64>,
}

/// A log, as one consumer group sees it. Partitions come and go while it is read: whatever is assigned to this member is
/// read from the group's position; a partition in which the group has none is read from its beginning.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// The group's name, with the transport's prefix.
    fn group(&self) -> &str;

    /// All partitions of `topics`. The caller answers with [`Source::start`].
    async fn places(&self, topics: &[Topic]) -> Result<Vec<Place>, Error>;

    /// Of each of `places`, in their order: the first offset that the log has, and the one that its next record gets.
    async fn bounds(&self, places: &[Place]) -> Result<Vec<(i64, i64)>, Error>;

    /// Makes each place's `position` the group's, before [`Source::start`]. Durable when it returns.
    ///
    /// # Errors
    /// [`Error::Broker`], also while other members of the group are reading.
    async fn reposition(&self, places: &[Place]) -> Result<(), Error>;

    /// Starts to read. Where the group is known to have a position (that of `places`), to find none is
    /// [`Error::OffsetLost`], from [`Source::recv`]; elsewhere it starts at the beginning of the log then.
    async fn start(&self, topics: &[Topic], places: &[Place]) -> Result<(), Error>;

    /// The next record; waits for one. Cancel safe.
    ///
    /// # Errors
    /// [`Error::OffsetLost`] when the group's position is no longer in the log; [`Error::Fenced`] when this member can never
    /// read again; [`Error::Broker`] for a passing fault.
    async fn recv(&self) -> Result<Message, Error>;

    /// Notes that the records of a partition up to `offset` are dealt with: the group's position may pass it. For a
    /// partition that has gone to another member it does nothing.
    fn done(&self, topic: &str, partition: i32, offset: i64) -> Result<(), Error>;

    /// Brings no further records, or brings them again, while [`Source::recv`] is still asked: the caller has no room, and must
    /// not look dead. Partitions that come while it is held are held too. It may be said again.
    fn hold(&self, held: bool);

    /// The places that were assigned to this member since the last call, each with the position that it is read from; `None`
    /// is its beginning. An assignment is told here before [`Source::recv`] brings a record of it.
    fn assigned(&self) -> Vec<Place>;

    /// The places whose position the log has stored since the last call, so that the caller can keep a note that the group
    /// has read them.
    fn noted(&self) -> Vec<Place>;
}
