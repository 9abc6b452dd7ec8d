//! What the log holds, once more: to Kafka, or to one handler.
//!
//! Three verbs, in the order of their danger:
//!
//! - [`send`] puts records into Kafka again, with the same version and id. A consumer with a gate drops what it has applied; one
//!   without a gate applies it again.
//! - [`redeliver`] puts events before one handler's gate that it neither has applied nor keeps waiting. Nothing takes effect
//!   twice.
//! - [`rewind`] sets one handler's cursor of one key back: what it applied after that is applied *again*.
//!
//! [`send`] and [`redeliver`] do one replay to its end; [`run`] does all that are asked for, as they come.
//!
//! Only delivered events are replayed, so a replay overtakes no first delivery. Each is asked for with an actor and a reason, which
//! the audit keeps.

mod run;

use std::{collections::BTreeMap, time::Duration};

use futures::{TryStreamExt as _, stream};
use sqlx::{FromRow, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

pub use self::run::run;
use crate::{
    Error, Refusal, Sink, Topic,
    audit::explained,
    envelope,
    store::{self, Asked, Logged, Replayed},
};

/// The header that marks a replayed record; its value is the replay's id.
pub const HEADER: &str = "banyan-replay";

/// What to replay.
#[derive(Debug, Clone)]
pub enum Selection {
    /// All events of a topic that were published from `since` until (not with) `until`, by the database's clock.
    Time {
        /// The topic.
        topic: Topic,
        /// The first moment.
        since: OffsetDateTime,
        /// The end.
        until: OffsetDateTime,
    },
    /// Versions of one key.
    Key {
        /// The topic.
        topic: Topic,
        /// The key.
        key: String,
        /// The first version; none: the oldest in the log.
        first: Option<i64>,
        /// The last version; none: the newest.
        last: Option<i64>,
    },
    /// The event of a dead letter, as it was published here.
    DeadLetter(Uuid),
}

/// A replay that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Replay {
    /// Its id; also the value of [`HEADER`].
    pub id: i64,
    /// The topic.
    pub topic: String,
    /// The key; none for a time range.
    pub key: Option<String>,
    /// The handler it is for; none: for Kafka.
    pub handler: Option<String>,
    /// The position of the last event dealt with.
    pub position: i64,
    /// Records sent, or events put before the handler's gate.
    pub delivered: i64,
    /// Events passed over: not delivered a first time yet, or applied or waiting at the handler.
    pub passed: i64,
    /// When it ended, if it has.
    pub ended_at: Option<OffsetDateTime>,
    /// Whether it was ended by [`cancel`].
    pub cancelled: bool,
}

/// Bounds of [`send`], [`redeliver`] and [`run`], each with its default.
#[derive(Debug, Clone)]
pub struct Options {
    /// Events read at once (200, 1 to 1,000); so many are sent again by whoever goes on after a crash.
    pub batch_max: i32,
    /// Keys sent at once (32). Records of one key go one after the other.
    pub keys_max: usize,
    /// How often a record is tried while the broker can't be reached (10).
    pub attempts_max: u32,
    /// The wait after the first failure (200 ms), doubled up to 5 s; also between two looks for room at a handler.
    pub delay: Duration,
    /// Events that may wait before the handler's gates (10,000): its inbox's `parked_max`, or less.
    pub parked_max: i32,
    /// How often [`redeliver`] looks for room in a row before it gives up (100).
    pub full_max: u32,
    /// How often [`run`] looks for replays (5 s).
    pub every: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            batch_max: 200,
            keys_max: 32,
            attempts_max: 10,
            delay: Duration::from_millis(200),
            parked_max: 10_000,
            full_max: 100,
            every: Duration::from_secs(5),
        }
    }
}

/// Asks for a replay to Kafka and returns its id; [`send`] or [`run`] does it. Until it ends, or nobody has gone on with it for a day,
/// retention keeps its days. The pool's role needs [`crate::grant_operator`].
///
/// # Errors
/// [`Error::Refused`] when the log does not hold what is asked for.
pub async fn ask(pool: &PgPool, selection: &Selection, actor: &str, reason: &str) -> Result<i64, Error> {
    explained(actor, reason)?;
    let by = (actor, reason);
    match selection {
        Selection::DeadLetter(letter) => store::ask_replay_of_letter(pool, *letter, by).await,
        other => store::ask_replay(pool, &asked(other, None), by).await,
    }
    .map_err(refused)
}

/// Asks for a replay to one handler of this database and returns its id; [`redeliver`] or [`run`] does it. For the dead letters of a
/// handler there is `dead_letter::replay`.
///
/// # Errors
/// [`Error::Refused`] when the log does not hold what is asked for, or the handler has not met the topic.
pub async fn ask_for(
    pool: &PgPool,
    handler: &str,
    selection: &Selection,
    actor: &str,
    reason: &str,
) -> Result<i64, Error> {
    if let Selection::DeadLetter(_) = selection {
        return Err(Error::Refused("a dead letter is replayed to its handler by dead_letter::replay".into()));
    }
    explained(actor, reason)?;
    store::ask_replay(pool, &asked(selection, Some(handler)), (actor, reason)).await.map_err(refused)
}

fn asked<'a>(selection: &'a Selection, handler: Option<&'a str>) -> Asked<'a> {
    match selection {
        Selection::Time { topic, since, until } => Asked {
            topic: topic.name(),
            since: Some(*since),
            until: Some(*until),
            handler,
            ..Asked::default()
        },
        Selection::Key { topic, key, first, last } => Asked {
            topic: topic.name(),
            key: Some(key),
            first: *first,
            last: *last,
            handler,
            ..Asked::default()
        },
        Selection::DeadLetter(_) => Asked { handler, ..Asked::default() },
    }
}

/// Sends what is left of a replay to Kafka, each record marked with [`HEADER`], and returns the replay at its end. Whoever calls
/// it again after a failure goes on where it was; at most a batch is sent twice.
///
/// # Errors
/// [`Error::Refused`] when the replay is not open, or somebody else sends it; [`Error::Broker`] when the broker refuses a record
/// or stays away for longer than `attempts_max`.
pub async fn send<S: Sink>(pool: &PgPool, sink: &S, id: i64, options: &Options) -> Result<Replay, Error> {
    let mut before = find(pool, id).await?.position;
    loop {
        let batch =
            store::replay_batch(pool, id, options.batch_max.clamp(1, 1_000)).await.map_err(refused)?;
        let last = batch.last().map(|row| row.position);
        let looked = batch.len();
        let sent = send_batch(sink, id, batch, options).await?;
        let (sent, passed) = (count(sent), count(looked - sent));
        if !store::note_replay(pool, id, (before, last), (sent, passed)).await? {
            return Err(Error::Refused(format!("replay {id} was ended, or somebody else sends it")));
        }
        match last {
            Some(last) => before = last,
            None => return find(pool, id).await,
        }
    }
}

/// Sends a batch: keys side by side, each in order. Returns how many records.
async fn send_batch<S: Sink>(
    sink: &S,
    id: i64,
    batch: Vec<Replayed>,
    options: &Options,
) -> Result<usize, Error> {
    let mut keys: BTreeMap<String, Vec<Logged>> = BTreeMap::new();
    for row in batch.into_iter().filter(|row| !row.pending) {
        keys.entry(row.event.key.clone()).or_default().push(row.event);
    }
    let sent = keys.values().map(Vec::len).sum();
    stream::iter(keys.into_values().map(Ok))
        .try_for_each_concurrent(options.keys_max.max(1), |events| async move {
            for event in events {
                send_one(sink, id, event, options).await?;
            }
            Ok::<(), Error>(())
        })
        .await?;
    Ok(sent)
}

async fn send_one<S: Sink>(sink: &S, id: i64, event: Logged, options: &Options) -> Result<(), Error> {
    let mut record = envelope::record(event);
    record.headers.set(HEADER, id.to_string());
    let mut delay = options.delay;
    for _ in 1..options.attempts_max {
        match sink.send(record.clone()).await {
            Err(Refusal::Outage(error)) => {
                tracing::warn!(replay = id, error, "a replay waits for the broker");
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(Duration::from_secs(5));
            }
            other => return other.map_err(|refusal| Error::Broker(refusal.to_string())),
        }
    }
    sink.send(record).await.map_err(|refusal| Error::Broker(refusal.to_string()))
}

/// Puts what is left of a replay before its handler's gate and returns the replay at its end. The handler's inbox takes the events
/// in their turn. Where it has `parked_max` events waiting, this waits until it has applied some.
///
/// # Errors
/// [`Error::Refused`] when the replay is not open, or is for Kafka; [`Error::ParkedFull`] when no room was made in time: call it
/// again later.
pub async fn redeliver(pool: &PgPool, id: i64, options: &Options) -> Result<Replay, Error> {
    let mut full = 0;
    loop {
        let batch_max = options.batch_max.clamp(1, 1_000);
        match store::redeliver_batch(pool, id, batch_max, options.parked_max).await.map_err(refused)? {
            Some(0) => return find(pool, id).await,
            Some(_) => full = 0,
            None if full >= options.full_max => {
                let handler = find(pool, id).await?.handler.unwrap_or_default();
                return Err(Error::ParkedFull { handler, parked_max: options.parked_max });
            }
            None => {
                full += 1;
                tokio::time::sleep(options.delay).await;
            }
        }
    }
}

/// Ends a replay before its end; what was delivered stays delivered. False when it is not open.
///
/// # Errors
/// [`Error::Unexplained`], [`Error::Denied`], [`Error::Database`].
pub async fn cancel(pool: &PgPool, id: i64, actor: &str, reason: &str) -> Result<bool, Error> {
    explained(actor, reason)?;
    Ok(store::cancel_replay(pool, id, (actor, reason)).await?)
}

/// The last replays, newest first.
///
/// # Errors
/// [`Error::Denied`], [`Error::Database`].
pub async fn list(pool: &PgPool, limit: i64) -> Result<Vec<Replay>, Error> {
    Ok(store::replays(pool, limit).await?)
}

/// Sets a handler's cursor of one key back to `version`, so that it applies what came after that *again*, in order: its effects
/// double unless they were undone, or undo themselves. At most 1,000 events, all of them in this log. Returns how many. Not for
/// replicas: a snapshot repairs those. To rebuild all that a handler has, give it a new name.
///
/// # Errors
/// [`Error::Refused`] says what is in the way; nothing has changed then.
pub async fn rewind(
    pool: &PgPool,
    handler: &str,
    (topic, key): (Topic, &str),
    version: i64,
    actor: &str,
    reason: &str,
) -> Result<u64, Error> {
    explained(actor, reason)?;
    let again =
        store::rewind(pool, handler, (topic.name(), key), version, (actor, reason)).await.map_err(refused)?;
    Ok(u64::try_from(again).unwrap_or(0))
}

async fn find(pool: &PgPool, id: i64) -> Result<Replay, Error> {
    store::replay(pool, id).await?.ok_or_else(|| Error::Refused(format!("there is no replay {id}")))
}

/// What the functions of a replay say with 22023 is meant for the operator.
fn refused(error: sqlx::Error) -> Error {
    match error.as_database_error() {
        Some(e) if e.code().as_deref() == Some("22023") => Error::Refused(e.message().to_owned()),
        _ => error.into(),
    }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
