//! A log that holds what a story wrote, so that each record of it is where the story wants it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use outbox::{Error, Message, Place, Source, Topic};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::world::NOTES;

/// One partition, one group.
#[derive(Clone, Default)]
pub(crate) struct Scripted(Arc<Script>);

#[derive(Default)]
struct Script {
    unread: Mutex<VecDeque<Message>>,
    arrived: Notify,
    written: Mutex<i64>,
    done: Mutex<BTreeMap<i32, i64>>,
    held: Mutex<bool>,
}

fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a record says.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) key: String,
    pub(crate) version: i64,
    pub(crate) id: Uuid,
    pub(crate) kind: &'static str,
    pub(crate) origin: &'static str,
    pub(crate) payload: String,
}

/// An event `test.noted.v1` of another database.
pub(crate) fn line(key: &str, version: i64, text: &str) -> Line {
    let payload = format!(r#"{{"key": "{key}", "text": "{text}"}}"#);
    let id = Uuid::now_v7();
    Line { key: key.into(), version, id, kind: "test.noted.v1", origin: "test.elsewhere", payload }
}

impl Line {
    /// As a log answers that is asked for it.
    pub(crate) fn message(&self) -> Message {
        let (topic, key) = (NOTES.name().to_owned(), Some(self.key.clone().into_bytes()));
        let payload = self.payload.clone().into_bytes();
        Message { topic, partition: -1, offset: -1, key, payload, headers: self.headers() }
    }

    fn headers(&self) -> Vec<(String, String)> {
        [
            ("ce_id", self.id.to_string()),
            ("ce_type", self.kind.to_owned()),
            ("ce_time", "2026-01-01T00:00:00Z".into()),
            ("banyan-version", self.version.to_string()),
            ("banyan-origin", self.origin.to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}

impl Scripted {
    pub(crate) fn write(&self, line: &Line) -> i64 {
        self.write_raw(Some(line.key.clone().into_bytes()), line.payload.clone(), line.headers())
    }

    /// A record as somebody else may have written it. Returns its offset.
    pub(crate) fn write_raw(
        &self,
        key: Option<Vec<u8>>,
        payload: String,
        headers: Vec<(String, String)>,
    ) -> i64 {
        let mut written = locked(&self.0.written);
        let offset = *written;
        *written += 1;
        let (topic, payload) = (NOTES.name().to_owned(), payload.into_bytes());
        let record = Message { topic, partition: 0, offset, key, payload, headers };
        locked(&self.0.unread).push_back(record);
        self.0.arrived.notify_one();
        offset
    }

    pub(crate) fn unread(&self) -> usize {
        locked(&self.0.unread).len()
    }

    /// Whether it was told to bring nothing.
    pub(crate) fn is_held(&self) -> bool {
        *locked(&self.0.held)
    }

    /// The offset up to which all is dealt with.
    pub(crate) fn done_up_to(&self) -> Option<i64> {
        locked(&self.0.done).get(&0).copied()
    }
}

#[async_trait]
impl Source for Scripted {
    fn group(&self) -> &str {
        "scripted"
    }

    async fn places(&self, topics: &[Topic]) -> Result<Vec<Place>, Error> {
        Ok(topics.iter().map(|topic| Place { topic: *topic, partition: 0, position: None }).collect())
    }

    async fn bounds(&self, places: &[Place]) -> Result<Vec<(i64, i64)>, Error> {
        Ok(places.iter().map(|_| (0, *locked(&self.0.written))).collect())
    }

    async fn reposition(&self, places: &[Place]) -> Result<(), Error> {
        for at in places.iter().filter_map(|place| place.position) {
            locked(&self.0.unread).retain(|record| record.offset >= at);
        }
        Ok(())
    }

    async fn start(&self, _: &[Topic], _: &[Place]) -> Result<(), Error> {
        Ok(())
    }

    async fn recv(&self) -> Result<Message, Error> {
        loop {
            if !self.is_held()
                && let Some(record) = locked(&self.0.unread).pop_front()
            {
                return Ok(record);
            }
            self.0.arrived.notified().await;
        }
    }

    fn done(&self, _: &str, partition: i32, offset: i64) -> Result<(), Error> {
        locked(&self.0.done).insert(partition, offset);
        Ok(())
    }

    fn hold(&self, held: bool) {
        *locked(&self.0.held) = held;
        self.0.arrived.notify_one();
    }

    fn assigned(&self) -> Vec<Place> {
        Vec::new()
    }

    fn noted(&self) -> Vec<Place> {
        Vec::new()
    }
}
