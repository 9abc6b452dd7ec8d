//! What a migration needs of the domain that moves.

use async_trait::async_trait;
use sqlx::postgres::PgTransaction;

use crate::{Applied, BoxError, Epoch, Heard};

/// A key of the domain, with the tenant it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The tenant.
    pub tenant: String,
    /// The key, 1 to 255 bytes.
    pub key: String,
}

/// A key that can't move now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    /// The key.
    pub key: String,
    /// Why, as an operator reads it, such as "a transfer is under way".
    pub why: String,
}

/// What a home has of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyCopy {
    /// The key.
    pub key: String,
    /// The version of its stream that the copy is at.
    pub version: i64,
    /// Over the state without its version, the same at both homes.
    pub hash: [u8; 32],
}

/// What a hand-over, a backfill and a comparison need of the domain, at either home. One implementation per home.
///
/// A key is *quiet* when nothing of it is under way: no intent without a definite outcome, no claim in flight, nothing parked
/// or dead. A step that has not begun is the next owner's.
#[async_trait]
pub trait Movable: Send + Sync + 'static {
    /// Begins a read-committed transaction of the domain's own role: at the source with [`crate::grant_mover`], at the target
    /// with [`crate::grant_home`].
    async fn begin(&self) -> Result<PgTransaction<'static>, BoxError>;

    /// Of these keys, in order, whose owner or authority rows `tx` has locked, those that are not quiet, and why. Locks the
    /// domain's rows `for update skip locked`: a row that someone else holds is not quiet.
    async fn pinned(&self, tx: &mut PgTransaction<'_>, keys: &[String]) -> Result<Vec<Pinned>, BoxError>;

    /// Publishes, for each key in order, its whole state and the epoch as the record that gives it up: an offer at the source, a
    /// release at the target. Its statements come after the locks, so they see all that was committed before.
    async fn give(&self, tx: &mut PgTransaction<'_>, keys: &[(String, Epoch)]) -> Result<(), BoxError>;

    /// These keys are this home's to write from the commit of `tx` on: work that waited for it begins. May be told twice. By default
    /// nothing: override it when something passes over keys that are not this home's, such as a queue of effects or a timer, and
    /// must look again.
    async fn gained(&self, _tx: &mut PgTransaction<'_>, _keys: &[String]) -> Result<(), BoxError> {
        Ok(())
    }

    /// Publishes this home's next heartbeat, on the topic of the feed, with a key that is no key of the domain's and another one at the
    /// other home. The other home's replica notes it when it applies it, as any record. By default nothing is published.
    async fn beat(&self, _tx: &mut PgTransaction<'_>) -> Result<(), BoxError> {
        Ok(())
    }

    /// What this home's replica has heard of the other home. By default [`Heard::Unsent`]: a domain that overrides
    /// [`Movable::beat`] overrides this, too.
    async fn heard(&self) -> Result<Heard, BoxError> {
        Ok(Heard::Unsent)
    }

    /// Told when something that was published here is committed: whoever has a relay in this process wakes it, so that none of it
    /// waits for the relay's next look. By default nothing.
    fn committed(&self) {}

    /// Those of these keys of which this home's copy is whole: it was started, and awaits no snapshot.
    async fn known(&self, tx: &mut PgTransaction<'_>, keys: &[String]) -> Result<Vec<String>, BoxError>;

    /// Publishes the whole state of each key, in order, as an ordinary record that changes nothing, from which a copy can begin;
    /// returns those that it could not publish now, and why. `tx` has locked the owner or authority rows; a key need not be
    /// quiet. A row that someone else holds is left out.
    async fn snapshot(&self, tx: &mut PgTransaction<'_>, keys: &[String]) -> Result<Vec<Pinned>, BoxError>;

    /// This home's copies, in the byte order of their keys, of the keys after `after` up to `upto`, at most `limit`. What is said
    /// of a key is of one moment.
    async fn copies(
        &self,
        after: Option<&str>,
        upto: Option<&str>,
        limit: i64,
    ) -> Result<Vec<KeyCopy>, BoxError>;
}

/// The domain at the source. One implementation per domain, in the source's program.
#[async_trait]
pub trait Domain: Movable {
    /// All keys of the domain's tables, in any order that does not change, at most `limit` of them, those after the key
    /// `after`. An empty answer is the end.
    async fn keys(&self, after: Option<&str>, limit: i64) -> Result<Vec<Key>, BoxError>;

    /// The keys that this home wrote last, the last one first, each with a version that the target must reach, at most `limit` of them: what the feed
    /// to the target is measured by. Each status asks, too, so it must be cheap however many keys there are:
    /// `outbox::recent_heads` is.
    async fn versions(&self, limit: i64) -> Result<Vec<(String, i64)>, BoxError>;

    /// What the source's replica has consumed of these keys (its cursors, events of its own included): the feed from the
    /// target to the source.
    async fn reverse_feed(&self, keys: &[String]) -> Result<Applied, BoxError>;

    /// An invariant of the domain that is broken now, in a sentence: the migration is held with it as the reason. Asked at each
    /// look, and not waited for longer than [`crate::Settings::ask_timeout`]: what takes longer to find out is found out beside, and told
    /// when it is asked for again.
    async fn broken(&self) -> Result<Option<String>, BoxError> {
        Ok(None)
    }

    /// What waits for a person at the source, where from `sealed` on nobody can end it, in a sentence: the source is not sealed with it.
    /// By default nothing: override it when the source's tables tell something that the target's do not.
    async fn left_open(&self) -> Result<Option<String>, BoxError> {
        Ok(None)
    }

    /// Whether the domain makes decisions that the target can make again, from its copy, the command and the outcome. A domain
    /// that only stores what it is told, and so has no effect outside, answers false: its gates say so instead of asking for comparisons.
    fn decides(&self) -> bool {
        true
    }

    /// What the decisions of the last seven days at this home came to, each kind once, in the words of
    /// [`crate::DecisionCount::outcome`]: the target must have compared each. An error, as by default, is inconclusive.
    async fn outcomes(&self) -> Result<Vec<String>, BoxError> {
        Err("the domain does not tell what its decisions come to".into())
    }
}
