//! Dead letters: events that their handler refused too often. Each holds up its key, and waits here for an operator.
//!
//! Whatever is done with one passes the same gate as an event from the log: a replay and a redelivery at the same time have
//! one effect. Every action names who did it and why, and is in [`crate::audit`]. The pool's role needs
//! [`crate::grant_operator`].

use sqlx::{FromRow, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{BoxError, Error, Headers, Incoming, audit::explained, store};

/// Dead letters moved in one transaction.
const BATCH_MAX: usize = 100;

/// Says whether a payload of a kind can be read, or why not.
pub type Decoder = dyn Fn(&str, &[u8]) -> Result<(), BoxError> + Sync;

/// An event that was given up.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
#[non_exhaustive]
pub struct Letter {
    /// The letter's own; the same event given up twice is two letters. Later ones are higher.
    pub id: Uuid,
    /// Who refused it.
    pub handler: String,
    /// The topic it came from.
    pub topic: String,
    /// The key that waits.
    pub key: String,
    /// The event's version.
    pub version: i64,
    /// The event's id.
    pub event_id: Uuid,
    /// The event's kind.
    pub kind: Option<String>,
    /// The last refusal.
    pub error: String,
    /// The cause: equal for errors that differ in numbers, UUIDs and quoted parts only.
    pub fingerprint: String,
    /// How often it was refused.
    pub attempts: i32,
    /// When it was given up.
    pub buried_at: OffsetDateTime,
}

/// Dead letters of one handler, kind and cause.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
#[non_exhaustive]
pub struct Group {
    /// The handler.
    pub handler: String,
    /// The kind.
    pub kind: Option<String>,
    /// The cause, see [`Letter::fingerprint`].
    pub fingerprint: String,
    /// How many.
    pub letters: i64,
    /// When the first was given up.
    pub first: OffsetDateTime,
    /// When the last was.
    pub last: OffsetDateTime,
    /// The latest error.
    pub sample: String,
}

/// Which letters; the default is all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this handler.
    pub handler: Option<String>,
    /// Of this kind.
    pub kind: Option<String>,
    /// Of this cause.
    pub fingerprint: Option<String>,
    /// Of this key.
    pub key: Option<String>,
}

/// What needs an operator's eye.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
#[non_exhaustive]
pub struct Counts {
    /// Dead letters.
    pub dead: i64,
    /// Unreadable records that nobody has discarded.
    pub unreadable: i64,
    /// Keys that miss events which the log is, or will be, asked for.
    pub incomplete: i64,
}

/// Where a record was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The consumer group, with the transport's prefix.
    pub group: String,
    /// The logical topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset there.
    pub offset: i64,
}

/// A record that no gate could take: without a usable key, version or id. It holds up nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unreadable {
    /// Where it was.
    pub place: Place,
    /// What is wrong with it.
    pub error: String,
    /// When it was read.
    pub seen_at: OffsetDateTime,
}

impl FromRow<'_, sqlx::postgres::PgRow> for Unreadable {
    fn from_row(row: &sqlx::postgres::PgRow) -> sqlx::Result<Self> {
        use sqlx::Row as _;
        let place = Place {
            group: row.try_get("consumer_group")?,
            topic: row.try_get("topic")?,
            partition: row.try_get("partition")?,
            offset: row.try_get("record_offset")?,
        };
        Ok(Self { place, error: row.try_get("error")?, seen_at: row.try_get("seen_at")? })
    }
}

/// Groups by handler, kind and cause, the largest first, at most `limit`.
///
/// # Errors
/// [`Error::Database`], [`Error::Denied`].
pub async fn groups(pool: &PgPool, filter: &Filter, limit: i64) -> Result<Vec<Group>, Error> {
    Ok(store::dead_letter_groups(pool, filter, limit).await?)
}

/// A page of letters, the oldest first: at most `limit`, after the letter `after`.
///
/// # Errors
/// [`Error::Database`], [`Error::Denied`].
pub async fn list(
    pool: &PgPool,
    filter: &Filter,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Letter>, Error> {
    Ok(store::dead_letters(pool, filter, after, limit).await?)
}

/// A letter's payload and headers; `None` when it is gone.
///
/// # Errors
/// [`Error::Database`], [`Error::Denied`].
pub async fn content(pool: &PgPool, letter: Uuid) -> Result<Option<(Vec<u8>, Headers)>, Error> {
    let content = store::dead_letter_content(pool, letter).await?;
    Ok(content.map(|(payload, headers)| (payload, headers.0)))
}

/// How much waits for an operator.
///
/// # Errors
/// [`Error::Database`], [`Error::Denied`].
pub async fn counts(pool: &PgPool) -> Result<Counts, Error> {
    Ok(store::dead_letter_counts(pool).await?)
}

/// Has letters tried again as they are, and returns how many. One that is gone meanwhile, replayed by someone else or applied
/// by a redelivery, is passed over.
///
/// # Errors
/// [`Error::Unexplained`] without actor or reason; [`Error::Database`], [`Error::Denied`]: then letters of earlier batches of
/// 100 are under way, the others as they were.
pub async fn replay(pool: &PgPool, letters: &[Uuid], actor: &str, reason: &str) -> Result<u64, Error> {
    explained(actor, reason)?;
    let mut done = 0;
    for batch in letters.chunks(BATCH_MAX) {
        done += count(store::replay_dead_letters(pool, batch, (actor, reason)).await?);
    }
    Ok(done)
}

/// Has all letters of a filter tried again as they are, in batches of 100, and returns how many. Those that die again while
/// this runs are left.
///
/// # Errors
/// As [`replay`].
pub async fn replay_all(pool: &PgPool, filter: &Filter, actor: &str, reason: &str) -> Result<u64, Error> {
    explained(actor, reason)?;
    let before = store::database_time(pool).await?;
    let (mut done, mut after) = (0, None);
    loop {
        let limit = i64::try_from(BATCH_MAX).unwrap_or(i64::MAX);
        let batch = store::dead_letters_before(pool, filter, (after, before), limit).await?;
        let Some(last) = batch.last() else {
            return Ok(done);
        };
        after = Some(*last);
        done += count(store::replay_dead_letters(pool, &batch, (actor, reason)).await?);
    }
}

/// Has a letter tried again with another payload. Version, id, kind and headers stay; the audit keeps the original. False when
/// the letter is gone. `decode` says whether a payload of a kind can be read; [`decodes`] makes it from a handler's type.
///
/// # Errors
/// [`Error::Invalid`] with the decoder's reason, when the payload is over its limit, or when the kind is in
/// `outbox.never_skipped`; nothing has changed then.
/// [`Error::Unexplained`], [`Error::Database`], [`Error::Denied`].
pub async fn edit_and_replay(
    pool: &PgPool,
    letter: Uuid,
    payload: &[u8],
    decode: &Decoder,
    actor: &str,
    reason: &str,
) -> Result<bool, Error> {
    explained(actor, reason)?;
    let Some(kind) = store::dead_letter_kind(pool, letter).await? else {
        return Ok(false);
    };
    let invalid =
        |reason: String| Error::Invalid { kind: kind.clone(), key: format!("letter {letter}"), reason };
    decode(&kind, payload).map_err(|error| invalid(crate::inbox::chain(&*error)))?;
    store::edit_dead_letter(pool, letter, payload, (actor, reason)).await.map_err(|error| match &error {
        sqlx::Error::Database(e) if matches!(e.code().as_deref(), Some("23514" | "55000")) => {
            invalid(e.message().to_owned())
        }
        _ => error.into(),
    })
}

/// Whether a handler of `E` could read a payload of this kind.
///
/// # Errors
/// Why not.
pub fn decodes<E: Incoming>(kind: &str, payload: &[u8]) -> Result<(), BoxError> {
    match E::decode(kind, payload) {
        None => Err(format!("{kind} is not a kind that this handler takes").into()),
        Some(event) => event.map(drop),
    }
}

/// Gives letters up for good and returns how many: a filler `outbox.skipped.v1` with the same version and id takes the place
/// of each, the gate moves the cursor by one over it and the key goes on. A replica waits for a snapshot then. The audit keeps
/// the original. One that is gone meanwhile is passed over.
///
/// # Errors
/// [`Error::Invalid`] when a kind is in `outbox.never_skipped`; [`Error::Unexplained`], [`Error::Database`],
/// [`Error::Denied`]: then letters of earlier batches of 100 are discarded, the others as they were.
pub async fn discard(pool: &PgPool, letters: &[Uuid], actor: &str, reason: &str) -> Result<u64, Error> {
    explained(actor, reason)?;
    let mut done = 0;
    for batch in letters.chunks(BATCH_MAX) {
        let discarded = store::discard_dead_letters(pool, batch, (actor, reason)).await;
        done += count(discarded.map_err(never_skipped)?);
    }
    Ok(done)
}

/// Records that no gate could take and nobody has discarded, the oldest first, at most `limit`.
///
/// # Errors
/// [`Error::Database`], [`Error::Denied`].
pub async fn unreadable(pool: &PgPool, group: Option<&str>, limit: i64) -> Result<Vec<Unreadable>, Error> {
    Ok(store::unreadable_records(pool, group, limit).await?)
}

/// Notes that someone has looked at an unreadable record. It stays in `outbox.unreadable`, or a redelivery would bring it
/// back. False when there is none, or it was discarded before.
///
/// # Errors
/// [`Error::Unexplained`], [`Error::Database`], [`Error::Denied`].
pub async fn discard_unreadable(
    pool: &PgPool,
    place: &Place,
    actor: &str,
    reason: &str,
) -> Result<bool, Error> {
    explained(actor, reason)?;
    Ok(store::discard_unreadable(pool, place, (actor, reason)).await?)
}

fn never_skipped(error: sqlx::Error) -> Error {
    match &error {
        sqlx::Error::Database(e) if e.code().as_deref() == Some("55000") => Error::Invalid {
            kind: "(dead letter)".into(),
            key: String::new(),
            reason: e.message().to_owned(),
        },
        _ => error.into(),
    }
}

fn count(done: i32) -> u64 {
    u64::try_from(done).unwrap_or(0)
}
