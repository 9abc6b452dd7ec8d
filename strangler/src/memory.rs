//! A target in memory, for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use time::OffsetDateTime;

use crate::handover::target::{Message, Row};
use crate::handover::{Effect, Facts, Refusal};
use crate::{
    Applied, BoxError, Checksum, Decisions, Epoch, Evidence, Health, Heard, KeyCopy, Logged, Missing, Peer,
    Pinned, Reply,
};

/// A target that answers what it was told to, and moves keys by the table. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    health: Option<Health>,
    applied: Applied,
    published: BTreeMap<String, i64>,
    rows: BTreeMap<String, Row>,
    busy: BTreeMap<String, String>,
    released: Vec<(String, Epoch)>,
    altered: BTreeMap<String, [u8; 32]>,
    lost: BTreeSet<String>,
    repaired: Vec<String>,
    asked_known: u64,
    asked_back: Vec<(String, Epoch)>,
    spoilt: BTreeSet<String>,
    decisions: Decisions,
    heard: Heard,
    beats: u64,
    log: Vec<Logged>,
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

    /// Notes an event in the log that it gives from. Those of a key are given in the order in which they were noted.
    pub fn log(&self, event: Logged) {
        self.state(|state| state.log.push(event));
    }

    /// Sets how many events wait.
    pub fn set_parked(&self, parked: i64) {
        self.state(|state| state.applied.parked = parked);
    }

    /// Applies the first record of a key that was born here.
    ///
    /// # Errors
    /// As the table refuses it.
    pub fn born(&self, key: &str) -> Result<(), Refusal> {
        self.state(|state| state.step(key, Message::Born, Epoch::BIRTH).map(drop))
    }

    /// Applies the source's offer of this epoch.
    ///
    /// # Errors
    /// As the table refuses it.
    pub fn offer(&self, key: &str, epoch: Epoch) -> Result<(), Refusal> {
        self.state(|state| state.step(key, Message::Offered, epoch).map(drop))
    }

    /// Sets what of a key is under way, if anything.
    pub fn set_busy(&self, key: &str, why: Option<&str>) {
        self.state(|state| match why {
            Some(why) => state.busy.insert(key.to_owned(), why.to_owned()),
            None => state.busy.remove(key),
        });
    }

    /// Lets each grant and recall fail that names this key.
    pub fn spoil(&self, key: &str) {
        self.state(|state| state.spoilt.insert(key.to_owned()));
    }

    /// What it may do with a key.
    pub fn row(&self, key: &str) -> Option<Row> {
        self.state(|state| state.rows.get(key).copied())
    }

    /// The releases it has published since the last call.
    pub fn take_released(&self) -> Vec<(String, Epoch)> {
        self.state(|state| std::mem::take(&mut state.released))
    }

    /// Gives its copy of a key another hash than that of 32 zeros, which all others have.
    pub fn alter(&self, key: &str, hash: [u8; 32]) {
        self.state(|state| state.altered.insert(key.to_owned(), hash));
    }

    /// Lets its copy of a key await a snapshot: of any version, it is applied by [`Memory::snapshot`].
    pub fn lose(&self, key: &str) {
        self.state(|state| state.lost.insert(key.to_owned()));
    }

    /// Applies a snapshot: the copy is whole and its owner's.
    pub fn snapshot(&self, key: &str, version: i64) {
        self.state(|state| {
            state.lost.remove(key);
            state.altered.remove(key);
            state.applied.versions.insert(key.to_owned(), version);
        });
    }

    /// The keys it was told to repair since the last call.
    pub fn take_repaired(&self) -> Vec<String> {
        self.state(|state| std::mem::take(&mut state.repaired))
    }

    /// How often it was asked which copies are whole.
    pub fn asked_known(&self) -> u64 {
        self.state(|state| state.asked_known)
    }

    /// The keys it was asked to give back, at their epochs, in the order of the calls, since the last call of this.
    pub fn take_asked_back(&self) -> Vec<(String, Epoch)> {
        self.state(|state| std::mem::take(&mut state.asked_back))
    }

    /// Sets what it found when it decided in the source's shadow; at first nothing, and nothing is said of its provider.
    pub fn set_decisions(&self, decisions: Decisions) {
        self.state(|state| state.decisions = decisions);
    }

    /// Sets what its replica has heard of the other home; at first [`Heard::Unsent`].
    pub fn set_heard(&self, heard: Heard) {
        self.state(|state| state.heard = heard);
    }

    /// How often it was told to publish a heartbeat.
    pub fn beats(&self) -> u64 {
        self.state(|state| state.beats)
    }

    fn state<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn obey(&self, message: Message, keys: &[(String, Epoch)]) -> Result<Vec<(String, Reply)>, BoxError> {
        self.state(|state| -> Result<_, BoxError> {
            state.health.ok_or(UNREACHABLE)?;
            let spoilt = keys.iter().find(|(key, _)| state.spoilt.contains(key));
            if let Some((key, _)) = spoilt.filter(|_| message != Message::Ready) {
                return Err(format!("the row of {key} makes no sense").into());
            }
            Ok(keys.iter().map(|(key, epoch)| (key.clone(), state.reply(key, message, *epoch))).collect())
        })
    }
}

const UNREACHABLE: &str = "the target can't be reached";

impl State {
    fn step(&mut self, key: &str, message: Message, epoch: Epoch) -> Result<Effect, Refusal> {
        let facts = Facts { quiet: !self.busy.contains_key(key), known: true };
        let (after, step) = Row::step(self.rows.get(key).copied(), message, epoch, facts)?;
        if let Some(row) = after {
            self.rows.insert(key.to_owned(), row);
        }
        if step.effect == Effect::PublishRelease {
            self.released.push((key.to_owned(), epoch));
        }
        Ok(step.effect)
    }

    fn reply(&mut self, key: &str, message: Message, epoch: Epoch) -> Reply {
        match self.step(key, message, epoch) {
            Ok(Effect::ReplyReady) => Reply::Ready,
            Ok(Effect::ReplyGranted) => Reply::Granted,
            Ok(Effect::PublishRelease | Effect::ReplyReleased) => Reply::Released,
            Ok(_) => Reply::Busy(self.busy.get(key).cloned().unwrap_or_default()),
            Err(Refusal::NotYet) => Reply::NotYet,
            Err(_) => Reply::Stale,
        }
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

    async fn decisions(&self, _: OffsetDateTime) -> Result<Decisions, BoxError> {
        Ok(self.state(|state| state.decisions.clone()))
    }

    async fn logged(&self, missing: Missing<'_>) -> Result<Vec<Logged>, BoxError> {
        let limit = usize::try_from(missing.limit)?;
        let wanted = |event: &&Logged| {
            let within = event.version > missing.after && event.version <= missing.until;
            within && event.topic == missing.topic && event.key == missing.key
        };
        Ok(self.state(|state| state.log.iter().filter(wanted).take(limit).cloned().collect()))
    }
}

#[async_trait]
impl Peer for Memory {
    async fn health(&self) -> Result<Health, BoxError> {
        self.state(|state| state.health).ok_or_else(|| UNREACHABLE.into())
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

    async fn beat(&self) -> Result<(), BoxError> {
        self.health().await?;
        self.state(|state| state.beats += 1);
        Ok(())
    }

    async fn heard(&self) -> Result<Heard, BoxError> {
        self.health().await?;
        Ok(self.state(|state| state.heard.clone()))
    }

    async fn ready(&self, keys: &[(String, Epoch)]) -> Result<Vec<(String, Reply)>, BoxError> {
        self.obey(Message::Ready, keys)
    }

    async fn grant(&self, keys: &[(String, Epoch)]) -> Result<Vec<(String, Reply)>, BoxError> {
        self.obey(Message::Grant, keys)
    }

    async fn recall(&self, keys: &[(String, Epoch)]) -> Result<Vec<(String, Reply)>, BoxError> {
        self.state(|state| state.asked_back.extend_from_slice(keys));
        self.obey(Message::Recall, keys)
    }

    async fn known(&self, keys: &[String]) -> Result<Vec<String>, BoxError> {
        self.health().await?;
        Ok(self.state(|state| {
            state.asked_known += 1;
            let whole =
                |key: &&String| state.applied.versions.contains_key(*key) && !state.lost.contains(*key);
            keys.iter().filter(whole).cloned().collect()
        }))
    }

    async fn copies(
        &self,
        after: Option<&str>,
        upto: Option<&str>,
        limit: i64,
    ) -> Result<Vec<KeyCopy>, BoxError> {
        self.health().await?;
        let limit = usize::try_from(limit)?;
        Ok(self.state(|state| {
            let within =
                |key: &str| after.is_none_or(|after| key > after) && upto.is_none_or(|upto| key <= upto);
            let versions = state.applied.versions.iter();
            let whole = versions.filter(|(key, _)| within(key.as_str()) && !state.lost.contains(*key));
            let copy = |(key, version): (&String, &i64)| KeyCopy {
                key: key.clone(),
                version: *version,
                hash: state.altered.get(key).copied().unwrap_or_default(),
            };
            whole.map(copy).take(limit).collect()
        }))
    }

    async fn checksum(
        &self,
        after: Option<&str>,
        upto: Option<&str>,
        limit: i64,
    ) -> Result<Checksum, BoxError> {
        Ok(Checksum::of(&Peer::copies(self, after, upto, limit).await?))
    }

    async fn repair(&self, keys: &[String]) -> Result<Vec<Pinned>, BoxError> {
        self.health().await?;
        Ok(self.state(|state| {
            let writes = |key: &String| state.rows.get(key).is_some_and(|row| row.writable);
            let (mine, others): (Vec<String>, Vec<String>) = keys.iter().cloned().partition(writes);
            state.repaired.extend(mine);
            let left = |key| Pinned { key, why: "it is not the target's to write".to_owned() };
            others.into_iter().map(left).collect()
        }))
    }

    async fn decisions(&self, since: OffsetDateTime) -> Result<Decisions, BoxError> {
        self.health().await?;
        Evidence::decisions(self, since).await
    }
}
