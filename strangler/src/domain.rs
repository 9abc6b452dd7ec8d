//! What the controller needs of the domain that moves, at the source.

use async_trait::async_trait;

use crate::{Applied, BoxError};

/// A key of the domain, with the tenant it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The tenant.
    pub tenant: String,
    /// The key, 1 to 255 bytes.
    pub key: String,
}

/// The domain at the source. One implementation per domain, in the source's program.
#[async_trait]
pub trait Domain: Send + Sync {
    /// All keys of the domain's tables, in any order that does not change, at most `limit` of them, those after the key
    /// `after`. An empty answer is the end.
    async fn keys(&self, after: Option<&str>, limit: i64) -> Result<Vec<Key>, BoxError>;

    /// The keys that were written most recently, at either home, each with the last version that this home knows of, at
    /// most `limit` of them. What the feed to the target is measured by.
    async fn versions(&self, limit: i64) -> Result<Vec<(String, i64)>, BoxError>;

    /// What the source's replica has consumed of these keys (its cursors, events of its own included): the feed from the
    /// target to the source.
    async fn reverse_feed(&self, keys: &[String]) -> Result<Applied, BoxError>;
}
