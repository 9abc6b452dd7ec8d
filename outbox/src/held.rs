//! What of a key waits in this database.

use sqlx::postgres::PgTransaction;

use crate::{Error, Topic, store};

/// Something of a key that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The key.
    pub key: String,
    /// In what way.
    pub by: HeldBy,
    /// In front of which handler; `None` for what this database published.
    pub handler: Option<String>,
}

/// In what way something waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldBy {
    /// An event waits for an earlier one, or was refused and is tried again.
    Parked,
    /// An event was given up; an operator replays or discards it.
    Dead,
    /// Events are known by their version only; they come from the log of who published them.
    Missing,
    /// A replica can't go on without a snapshot.
    Awaiting,
    /// The broker never took an event that was published here; an operator has it sent again.
    Quarantined,
}

impl HeldBy {
    fn from_word(word: &str) -> Result<Self, Error> {
        match word {
            "parked" => Ok(Self::Parked),
            "dead" => Ok(Self::Dead),
            "missing" => Ok(Self::Missing),
            "awaiting" => Ok(Self::Awaiting),
            "quarantined" => Ok(Self::Quarantined),
            _ => Err(Error::Database(sqlx::Error::Decode(format!("{word:?} is no way to wait").into()))),
        }
    }
}

/// What waits of these keys of a topic, in this database: once for each way and handler. Whoever hands a key on to another home
/// asks for this in the transaction that has locked the key, so that nothing of it is left behind. The role needs
/// [`crate::grant_module`] for the topic, and [`crate::grant_replica`].
///
/// # Errors
/// [`Error::Database`], [`Error::Denied`].
pub async fn held(tx: &mut PgTransaction<'_>, topic: Topic, keys: &[String]) -> Result<Vec<Held>, Error> {
    let rows = store::held(tx, topic.name(), keys).await?;
    let read = |(key, word, handler): (String, String, Option<String>)| -> Result<Held, Error> {
        Ok(Held { key, by: HeldBy::from_word(&word)?, handler })
    };
    rows.into_iter().map(read).collect()
}
