//! Has the owner of chosen keys publish their state, so that the other home's copies are mended.

use serde_json::json;

use super::change::{BY_MAX, REASON_MAX, cut};
use super::seal::needs_source;
use super::{Controller, Inner};
use crate::peer::REPAIRS_MAX;
use crate::store::{backfill as store, policy};
use crate::target::check_keys;
use crate::{Error, Home, Phase, Repaired, Unrepaired};

impl Controller {
    /// Publishes the state of these keys, 1 to 100, each by its owner. What was asked for is a line of history, written first; the
    /// policy stays as it is, and so does its revision. A key that
    /// can't be published now is part of the answer, and may be asked for again.
    ///
    /// # Errors
    /// [`Error::Invalid`] for none, too many, malformed or repeated keys; [`Error::Refused`] once the source is sealed;
    /// [`Error::UnknownMigration`]; the database's failure.
    pub async fn repair(&self, keys: &[String], by: &str) -> Result<Repaired, Error> {
        check_keys(keys, REPAIRS_MAX)?;
        needs_source(&self.policy().await?)?;
        let Inner { migration, pool, .. } = &*self.0;
        let revision = self.note_repair(keys, by).await?;
        let standing = store::standing(pool, migration, keys).await?;
        let settled_at = |wanted: Home| -> Vec<String> {
            let there =
                standing.iter().filter(|(_, home, phase)| *home == wanted && *phase == Phase::Settled);
            there.map(|(key, ..)| key.clone()).collect()
        };
        let mut left: Vec<Unrepaired> = Vec::new();
        for key in keys {
            let why = match standing.iter().find(|(known, ..)| known == key) {
                None => "it has no owner: it was never born",
                Some((_, _, Phase::Moving | Phase::Recalling)) => {
                    "it changes its owner, which publishes its state too"
                }
                Some((_, _, Phase::Settled)) => continue,
            };
            left.push(unrepaired(key, why));
        }
        left.extend(self.repair_here(settled_at(Home::Source)).await);
        left.extend(self.repair_there(settled_at(Home::Target)).await);
        let unsent = |key: &&String| !left.iter().any(|left| left.key == **key);
        let published: Vec<String> = keys.iter().filter(unsent).cloned().collect();
        Ok(Repaired { migration: migration.clone(), published, left, revision })
    }

    async fn repair_here(&self, keys: Vec<String>) -> Vec<Unrepaired> {
        match self.publish_in_time(&keys).await {
            Ok((_, unsent)) => unsent.iter().map(|it| unrepaired(&it.key, &it.why)).collect(),
            Err(error) => all(&keys, &error.to_string()),
        }
    }

    async fn repair_there(&self, keys: Vec<String>) -> Vec<Unrepaired> {
        if keys.is_empty() {
            return Vec::new();
        }
        match self.ask(self.0.peer.repair(&keys)).await {
            Ok(unsent) => unsent.iter().map(|it| unrepaired(&it.key, &it.why)).collect(),
            Err(error) => all(&keys, &error.to_string()),
        }
    }

    async fn note_repair(&self, keys: &[String], by: &str) -> Result<i64, Error> {
        let Inner { migration, pool, .. } = &*self.0;
        let reason = format!("{} keys, such as {}", keys.len(), keys.first().map_or("", String::as_str));
        let (by, reason, keys) = (cut(by, BY_MAX), cut(&reason, REASON_MAX), json!({ "keys": keys }));
        let revision = policy::note_repair(pool, migration, by, reason, &keys).await?;
        revision.ok_or_else(|| Error::UnknownMigration(migration.clone()))
    }
}

fn unrepaired(key: &str, why: &str) -> Unrepaired {
    Unrepaired { key: key.to_owned(), why: why.to_owned() }
}

fn all(keys: &[String], why: &str) -> Vec<Unrepaired> {
    keys.iter().map(|key| unrepaired(key, why)).collect()
}
