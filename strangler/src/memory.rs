//! A target in memory, for tests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use crate::{Applied, BoxError, Evidence, Health, Peer};

/// A target that answers what it was told to. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    health: Option<Health>,
    applied: Applied,
    published: BTreeMap<String, i64>,
}

impl Memory {
    /// Sets what it says of its health; `None`: it can't be reached, as at first.
    pub fn set_health(&self, health: Option<Health>) {
        self.state(|state| state.health = health);
    }

    /// Notes that a version of a key was applied.
    pub fn apply(&self, key: &str, version: i64) {
        self.state(|state| state.applied.versions.insert(key.to_owned(), version));
    }

    /// Notes that it published a version of a key itself.
    pub fn publish(&self, key: &str, version: i64) {
        self.state(|state| state.published.insert(key.to_owned(), version));
    }

    /// Sets how many events wait.
    pub fn set_parked(&self, parked: i64) {
        self.state(|state| state.applied.parked = parked);
    }

    fn state<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Evidence for Memory {
    async fn applied(&self, keys: &[String]) -> Result<Applied, BoxError> {
        let mut applied = self.state(|state| state.applied.clone());
        applied.versions.retain(|key, _| keys.contains(key));
        Ok(applied)
    }

    async fn published(&self, limit: i64) -> Result<Vec<(String, i64)>, BoxError> {
        let published = self.state(|state| state.published.clone());
        Ok(published.into_iter().take(usize::try_from(limit)?).collect())
    }
}

#[async_trait]
impl Peer for Memory {
    async fn health(&self) -> Result<Health, BoxError> {
        self.state(|state| state.health).ok_or_else(|| "the target can't be reached".into())
    }

    async fn applied(&self, keys: &[String]) -> Result<Applied, BoxError> {
        match self.health().await {
            Ok(_) => Evidence::applied(self, keys).await,
            Err(unreachable) => Err(unreachable),
        }
    }

    async fn published(&self, limit: i64) -> Result<Vec<(String, i64)>, BoxError> {
        self.health().await?;
        Evidence::published(self, limit).await
    }
}
