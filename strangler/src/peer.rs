//! What the controller asks of the target.

use std::collections::BTreeMap;

use async_trait::async_trait;
use time::OffsetDateTime;

use crate::copies::Checksum;
use crate::{BoxError, Decisions, Epoch, Heard, KeyCopy, Logged, Missing, Pinned, Reply};

/// The most keys in one question for evidence.
pub(crate) const KEYS_MAX: usize = 1_000;
/// The most keys in one call that moves them.
pub(crate) const MOVES_MAX: usize = 500;
/// The most copies in one answer.
pub(crate) const COPIES_MAX: i64 = 1_000;
/// The most keys in one repair.
pub(crate) const REPAIRS_MAX: usize = 100;
/// The longest key, in bytes.
pub(crate) const KEY_BYTES_MAX: usize = 255;

/// Whether the target serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Serving,
    /// It says that it does not.
    NotServing,
}

/// How far a replica is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// The last version applied of each key that was asked for; a key it does not know is missing.
    pub versions: BTreeMap<String, i64>,
    /// Events, of all keys, that wait for an earlier one or were refused.
    pub parked: i64,
    /// Keys, of all, that can't go on without a snapshot.
    pub awaiting: i64,
}

/// A home's own word on what its replica applied and what it published. The target implements it and serves it by [`crate::control::serve`].
#[async_trait]
pub trait Evidence: Send + Sync + 'static {
    /// What was applied of these keys, and what waits.
    async fn applied(&self, keys: &[String]) -> Result<Applied, BoxError>;

    /// The keys that this home itself published last, the last one first, each once with the last version it published, at most `limit` of them.
    /// Empty only when it has published nothing.
    async fn published(&self, limit: i64) -> Result<Vec<(String, i64)>, BoxError>;

    /// What this home found, since a time of its own clock, when it decided in the source's shadow, and whether it could have an
    /// effect outside. A home that has nothing to say of it, as by default, passes no gate by it.
    async fn decisions(&self, since: OffsetDateTime) -> Result<Decisions, BoxError> {
        let _ = since;
        Ok(Decisions::default())
    }

    /// What this home's own log has of what a consumer elsewhere misses, in the order of versions: events that this home published and
    /// that were delivered. Those of other homes, and those that the log no longer has, are left out. Only topics that the asking home
    /// may read belong into it. A home that has no such log, as by default, can't be asked.
    async fn logged(&self, missing: Missing<'_>) -> Result<Vec<Logged>, BoxError> {
        let _ = missing;
        Err("this home gives nothing from a log".into())
    }
}

/// The target, as the controller sees it: [`crate::control::Client`] over gRPC, [`crate::Memory`] in tests.
#[async_trait]
pub trait Peer: Send + Sync {
    /// Whether it serves. An error means that it can't be asked.
    async fn health(&self) -> Result<Health, BoxError>;

    /// What it has applied of at most 1,000 keys.
    async fn applied(&self, keys: &[String]) -> Result<Applied, BoxError>;

    /// What it published last itself, at most `limit` keys, 1 to 1,000. See [`Evidence::published`].
    async fn published(&self, limit: i64) -> Result<Vec<(String, i64)>, BoxError>;

    /// Has it publish a heartbeat. See [`crate::Movable::beat`].
    async fn beat(&self) -> Result<(), BoxError>;

    /// What its replica has heard of the source. See [`crate::Movable::heard`].
    async fn heard(&self) -> Result<Heard, BoxError>;

    /// Whether it has applied the offers of these keys, of exactly these epochs: [`Reply::Ready`], or `NotYet`, or `Stale`. At most
    /// 500 keys; one reply for each.
    async fn ready(&self, keys: &[(String, Epoch)]) -> Result<Vec<(String, Reply)>, BoxError>;

    /// Says that these keys are its own to write since these epochs: [`Reply::Granted`], or `NotYet`, or `Stale`. At most 500 keys;
    /// may be repeated.
    async fn grant(&self, keys: &[(String, Epoch)]) -> Result<Vec<(String, Reply)>, BoxError>;

    /// Takes these keys back at these epochs: [`Reply::Released`], or `Busy`, or `NotYet`, or `Stale`. At most 500 keys; repeated until
    /// the release has come.
    async fn recall(&self, keys: &[(String, Epoch)]) -> Result<Vec<(String, Reply)>, BoxError>;

    /// Those of at most 1,000 keys of which its copy is whole. See [`crate::Movable::known`].
    async fn known(&self, keys: &[String]) -> Result<Vec<String>, BoxError>;

    /// Its copies, at most `limit`, 1 to 1,000. See [`crate::Movable::copies`].
    async fn copies(
        &self,
        after: Option<&str>,
        upto: Option<&str>,
        limit: i64,
    ) -> Result<Vec<KeyCopy>, BoxError>;

    /// Number and checksum of what [`Peer::copies`] would answer.
    async fn checksum(
        &self,
        after: Option<&str>,
        upto: Option<&str>,
        limit: i64,
    ) -> Result<Checksum, BoxError>;

    /// Has it publish the state of those of at most 100 keys that are its own; returns the others, and why.
    async fn repair(&self, keys: &[String]) -> Result<Vec<Pinned>, BoxError>;

    /// What it found since a time, by its own clock, when it decided in the source's shadow. See [`Evidence::decisions`].
    async fn decisions(&self, since: OffsetDateTime) -> Result<Decisions, BoxError> {
        let _ = since;
        Err("this peer can't be asked for decisions".into())
    }
}
