//! The broker as a relay sees it.

use async_trait::async_trait;

use super::{Memory, Outage};
use crate::{Error, Message, Record, Refusal, Sink};

/// A broker in memory as a sink. Made by [`Memory::sink`] or [`super::pair`].
#[derive(Clone)]
pub struct MemorySink(pub(super) Memory);

impl MemorySink {
    /// The broker behind it, to ask for faults and to look at what was sent.
    pub fn memory(&self) -> &Memory {
        &self.0
    }

    /// Whether the broker refuses a record for what it is.
    fn refuses(&self, record: &Record) -> bool {
        self.0.state().refuse.as_ref().is_some_and(|refuse| refuse(record))
    }
}

#[async_trait]
impl Sink for MemorySink {
    async fn send(&self, record: Record) -> Result<(), Refusal> {
        // A real one answers later, never at once.
        tokio::task::yield_now().await;
        let outage = self.0.state().outage;
        if outage == Outage::Down {
            return Err(Refusal::Outage("the story has taken the broker down".into()));
        }
        if self.refuses(&record) {
            return Err(Refusal::Record("the story refuses it".into()));
        }
        let partition = self.0.partition(&record.key);
        let headers = record.headers.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let (key, payload) = (Some(record.key.into_bytes()), record.payload);
        self.0.append(Message { topic: record.topic, partition, offset: 0, key, payload, headers });
        match outage {
            Outage::ReportsLost => Err(Refusal::Outage("the story has lost the report".into())),
            Outage::None | Outage::Down => Ok(()),
        }
    }

    async fn check(&self) -> Result<(), Error> {
        match self.0.state().outage {
            Outage::None => Ok(()),
            Outage::Down | Outage::ReportsLost => {
                Err(Error::Broker("the story has taken the broker down".into()))
            }
        }
    }
}
