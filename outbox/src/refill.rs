//! Asking a log for events that an inbox misses.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use sqlx::PgPool;

use crate::{Error, Message, envelope, store};

/// The log of the homes that publish a stream. An inbox asks it for what a key misses: an event that never came, or one that
/// found no room to be parked.
///
/// An answer takes the same way as a record that was read from the broker: the gate decides. Implement it over whatever
/// reaches the producing home; [`DatabaseRefill`] is for a home whose database can be reached.
#[async_trait]
pub trait Refill: Send + Sync {
    /// Events of a key with versions after `after` until `until`, in order, at most `limit`; fewer, or none, when the log has
    /// no more or they would be large. Partition and offset of the messages mean nothing.
    ///
    /// # Errors
    /// When the log can't be asked now; the key is tried again later, others go on.
    async fn events(
        &self,
        topic: &str,
        key: &str,
        after: i64,
        until: i64,
        limit: i64,
    ) -> Result<Vec<Message>, Error>;
}

/// The log in a database that can be reached. The pool's role needs [`crate::grant_refill`] there.
#[derive(Debug, Clone)]
pub struct DatabaseRefill(pub PgPool);

#[async_trait]
impl Refill for DatabaseRefill {
    async fn events(
        &self,
        topic: &str,
        key: &str,
        after: i64,
        until: i64,
        limit: i64,
    ) -> Result<Vec<Message>, Error> {
        let logged = store::log_of(&self.0, (topic, key), (after, until), limit).await?;
        Ok(logged.into_iter().map(|event| message(envelope::record(event))).collect())
    }
}

/// By topic, key and version.
type Events = BTreeMap<(String, Vec<u8>, i64), Message>;

/// A log in memory, for tests. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct MemoryRefill {
    events: Arc<Mutex<Events>>,
}

impl MemoryRefill {
    /// Adds an event as it was in the broker. One without key or `banyan-version` header can't be asked for, and is left out;
    /// one with the same topic, key and version is replaced.
    pub fn add(&self, message: Message) {
        if let (Some(key), Some(version)) = (message.key.clone(), message.version()) {
            self.locked().insert((message.topic.clone(), key, version), message);
        }
    }

    fn locked(&self) -> MutexGuard<'_, Events> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Refill for MemoryRefill {
    async fn events(
        &self,
        topic: &str,
        key: &str,
        after: i64,
        until: i64,
        limit: i64,
    ) -> Result<Vec<Message>, Error> {
        let at = |version: i64| (topic.to_owned(), key.as_bytes().to_vec(), version);
        let limit = usize::try_from(limit).unwrap_or(0);
        if after >= until {
            return Ok(Vec::new());
        }
        let events = self.locked();
        Ok(events.range(at(after + 1)..=at(until)).take(limit).map(|(_, message)| message.clone()).collect())
    }
}

/// Several homes publish to one stream, each with a part of a key's history: all are asked, the answers joined.
#[async_trait]
impl Refill for Vec<Arc<dyn Refill>> {
    async fn events(
        &self,
        topic: &str,
        key: &str,
        after: i64,
        until: i64,
        limit: i64,
    ) -> Result<Vec<Message>, Error> {
        let mut all = Vec::new();
        for log in self {
            all.extend(log.events(topic, key, after, until, limit).await?);
        }
        Ok(all)
    }
}

fn message(record: crate::Record) -> Message {
    let headers = record.headers.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Message {
        topic: record.topic,
        partition: -1,
        offset: -1,
        key: Some(record.key.into_bytes()),
        payload: record.payload,
        headers,
    }
}
