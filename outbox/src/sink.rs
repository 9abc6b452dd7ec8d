//! Where a relay sends to.

use async_trait::async_trait;

use crate::{Error, Headers};

/// One record to send.
#[derive(Debug, Clone)]
pub struct Record {
    /// The logical topic.
    pub topic: String,
    /// The key, which also chooses the partition.
    pub key: String,
    /// The bytes, forwarded as they were published.
    pub payload: Vec<u8>,
    /// All headers of the record.
    pub headers: Headers,
}

/// Why a record was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The broker refuses this record and would again, such as one that is too large.
    #[error("the broker refused the record: {0}")]
    Record(String),
    /// The broker takes nothing for this topic: it does not exist, or this client may not write to it. Says nothing of the record,
    /// which waits until that is mended.
    #[error("the topic can't be written to: {0}")]
    Topic(String),
    /// The broker can't be reached or did not answer; the record may or may not have arrived. Sending it again is safe.
    #[error("the broker can't be reached: {0}")]
    Outage(String),
}

/// A message broker, as a relay sees it.
#[async_trait]
pub trait Sink: Send + Sync + 'static {
    /// Sends one record and returns when its delivery was reported by the broker, within a bound of the sink's own.
    async fn send(&self, record: Record) -> Result<(), Refusal>;

    /// Sends a record that was refused before, so that it shares its fate with no other: a broker refuses a whole batch for
    /// one record in it. A sink without batches need not tell the difference.
    async fn send_alone(&self, record: Record) -> Result<(), Refusal> {
        self.send(record).await
    }

    /// What a record shares its availability with, such as a partition with its leader. While one lane is down, others go on.
    fn lane(&self, _topic: &str, _key: &str) -> u64 {
        0
    }

    /// Which of these logical topics can't be written to, each with the reason.
    ///
    /// # Errors
    /// [`Error::Broker`] when the broker can't be asked.
    async fn missing(&self, _topics: &[String]) -> Result<Vec<(String, String)>, Error> {
        Ok(Vec::new())
    }

    /// Checks that the broker can be reached, within a bound.
    ///
    /// # Errors
    /// [`Error::Broker`] with what went wrong.
    async fn check(&self) -> Result<(), Error>;
}
