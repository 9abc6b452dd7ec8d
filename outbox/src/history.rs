//! What happened to the events of one key, and when.

use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Error, Topic, store};

/// Events that a [`History`] tells of at most: the last ones.
pub const HISTORY_MAX: i32 = 1_000;

/// What one database knows of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// The last version, whoever published it; 0 for a key without events here.
    pub version: i64,
    /// Whether head and cursors are in the archive.
    pub archived: bool,
    /// The events published here that are still in the log, oldest first.
    pub steps: Vec<Step>,
    /// How far each handler of this database is.
    pub handlers: Vec<Reached>,
}

/// One event. All times are this database's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its version.
    pub version: i64,
    /// Its id.
    pub id: Uuid,
    /// Its kind.
    pub kind: String,
    /// Who published it.
    pub origin: String,
    /// When it was written, in its transaction: the commit came later.
    pub written_at: OffsetDateTime,
    /// Whether it was sent.
    pub sent: Sent,
}

/// What is known of an event's way to the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// When its delivery was noted here, right after the broker had reported it; the first time, if it was sent twice.
    Noted(OffsetDateTime),
    /// It is in the queue.
    Pending {
        /// How often the broker refused it.
        attempts: i32,
        /// The last refusal.
        error: Option<String>,
    },
    /// It has left the queue, but when was not found: not noted, or too many deliveries were between.
    Unknown,
}

/// How far a handler is in a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// The handler.
    pub handler: String,
    /// The last version it applied.
    pub version: i64,
    /// When its gate opened for that version; none when the cursor was set back since.
    pub applied_at: Option<OffsetDateTime>,
    /// What waits before its gate.
    pub waiting: Vec<Waiting>,
}

/// An event that waits before a gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its version.
    pub version: i64,
    /// `early`, `refused`, `failed` or `dead`.
    pub why: String,
    /// The last error.
    pub error: Option<String>,
    /// Since when.
    pub since: OffsetDateTime,
}

/// What is known of an event at one handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// The handler's gate opened for it at this time.
    At(OffsetDateTime),
    /// Applied, or passed over by a snapshot, at this time or before: a cursor keeps the time of its last version only.
    By(OffsetDateTime),
    /// Applied; when is not known.
    Before,
    /// It waits in this database.
    Waiting,
    /// It has not come yet.
    NotYet,
}

impl Reached {
    /// What is known of one version.
    pub fn applied(&self, version: i64) -> Applied {
        match self.applied_at {
            Some(at) if version == self.version => Applied::At(at),
            Some(at) if version < self.version => Applied::By(at),
            None if version <= self.version => Applied::Before,
            _ if self.waiting.iter().any(|waiting| waiting.version == version) => Applied::Waiting,
            _ => Applied::NotYet,
        }
    }
}

/// Reads what this database knows of a key: when its last [`HISTORY_MAX`] events were written and sent, and how far each handler
/// is. A question for an operator, not for a request; each part is read by itself, so a busy key may move in between. The
/// pool's role needs [`crate::grant_operator`].
///
/// # Errors
/// [`Error::Denied`], [`Error::Database`].
pub async fn history(pool: &PgPool, topic: Topic, key: &str) -> Result<History, Error> {
    let topic = topic.name();
    let head = store::head_of(pool, topic, key).await?;
    let steps = store::steps(pool, topic, key, HISTORY_MAX).await?.into_iter().map(Step::from).collect();
    let mut handlers: Vec<Reached> = store::reached(pool, topic, key)
        .await?
        .into_iter()
        .map(|row| Reached {
            handler: row.handler,
            version: row.version,
            applied_at: row.applied_at,
            waiting: Vec::new(),
        })
        .collect();
    for row in store::waiting_of(pool, topic, key).await? {
        let waiting = Waiting { version: row.version, why: row.why, error: row.error, since: row.since };
        // Each has a cursor, unless it was made between the two questions.
        if let Some(reached) = handlers.iter_mut().find(|reached| reached.handler == row.handler) {
            reached.waiting.push(waiting);
        }
    }
    let (version, archived) = head.map_or((0, false), |head| (head.version, head.archived));
    Ok(History { version, archived, steps, handlers })
}

impl From<store::StepRow> for Step {
    fn from(row: store::StepRow) -> Self {
        let sent = match (row.pending, row.sent_at) {
            (true, _) => Sent::Pending { attempts: row.attempts.unwrap_or(0), error: row.error },
            (false, Some(at)) => Sent::Noted(at),
            (false, None) => Sent::Unknown,
        };
        let store::StepRow { version, id, kind, origin, created_at, .. } = row;
        Self { version, id, kind, origin, written_at: created_at, sent }
    }
}
