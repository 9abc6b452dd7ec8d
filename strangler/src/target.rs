//! What a controller asks of the target's keys, done in the target's database.

mod call;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::metrics::Meter;
use sqlx::postgres::PgTransaction;

use self::call::{Call, Work};
use crate::error::{CANCELED, LOCKED, code};
use crate::handover::target::{Message, Row};
use crate::handover::{Facts, Refusal};
use crate::peer::{COPIES_MAX, KEY_BYTES_MAX, KEYS_MAX, MOVES_MAX, REPAIRS_MAX};
use crate::store::{authority as store, policy};
use crate::{Authority, BoxError, Checksum, Epoch, Error, Heard, KeyCopy, Movable, Pinned};

/// How long a call waits for writes under way, all of its keys together. Longer, and the caller asks again.
const LOCK_TIMEOUT: Duration = Duration::from_millis(500);
/// The longest reason in a reply, in bytes.
const WHY_BYTES_MAX: usize = 200;

/// The target's answer for one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The offer is applied: the key may be granted.
    Ready,
    /// The key is the target's.
    Granted,
    /// The key is called back, but not quiet, for this reason: ask again. What is under way goes on; nothing new begins.
    Busy(String),
    /// The key is given up and the release published.
    Released,
    /// What the question is about has not come here yet: ask again.
    NotYet,
    /// The question is about an earlier owner.
    Stale,
}

/// Carries out `Ready`, `Grant` and `Recall`. Each call is one transaction of the domain's role; what becomes of a row says the
/// table ([`Row::step`]). Clones share their counter.
#[derive(Clone)]
pub struct Target {
    authority: Authority,
    domain: Arc<dyn Movable>,
    stale: Arc<AtomicU64>,
}

impl Target {
    /// Over the authority of a migration and the domain at this home.
    pub fn new(authority: Authority, domain: Arc<dyn Movable>) -> Self {
        Self { authority, domain, stale: Arc::default() }
    }

    /// Shows [`Target::stale`] as the counter `strangler.control.stale`, from the beginning. Once per meter.
    #[must_use]
    pub fn shown(self, meter: &Meter) -> Self {
        let stale = Arc::clone(&self.stale);
        meter
            .u64_observable_counter("strangler.control.stale")
            .with_description(
                "Keys that a control call, or a write's grant, named with an epoch that is over.",
            )
            .with_callback(move |to| to.observe(stale.load(Ordering::Relaxed), &[]))
            .build();
        self
    }

    /// Whether the offers of these keys, of exactly these epochs, are applied. Changes nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`] for none, more than 500 or malformed keys; [`Error::Domain`]; [`Error::Database`].
    pub async fn ready(&self, keys: &[(String, Epoch)]) -> Result<Vec<(String, Reply)>, Error> {
        self.obey(Message::Ready, keys).await
    }

    /// Makes these keys this home's to write since these epochs. Again changes nothing. A write that carries a settled epoch
    /// above this home's calls this first, in a transaction of its own.
    ///
    /// # Errors
    /// As [`Target::ready`]; [`Error::Moving`] when writes under way held a key too long: ask again.
    pub async fn grant(&self, keys: &[(String, Epoch)]) -> Result<Vec<(String, Reply)>, Error> {
        self.obey(Message::Grant, keys).await
    }

    /// Whether this home's row of a key, called back or not, is of an earlier epoch: then a write that carries this one is a grant.
    /// Locks nothing, so that it costs a busy key little.
    ///
    /// # Errors
    /// As [`Target::ready`].
    pub async fn is_behind(&self, key: &str, epoch: Epoch) -> Result<bool, Error> {
        let names = [key.to_owned()];
        check_keys(&names, 1)?;
        let mut tx = self.domain.begin().await.map_err(domain)?;
        let rows = store::find(&mut tx, self.authority.migration(), &names).await?;
        tx.rollback().await?;
        Ok(rows.get(key).is_some_and(|row| row.epoch < epoch))
    }

    /// Gives these keys up at these epochs: those that are quiet at once, in this transaction, with a release. The others begin
    /// nothing new from here on.
    ///
    /// # Errors
    /// As [`Target::grant`].
    pub async fn recall(&self, keys: &[(String, Epoch)]) -> Result<Vec<(String, Reply)>, Error> {
        self.obey(Message::Recall, keys).await
    }

    /// Those of these keys of which this home's copy is whole.
    ///
    /// # Errors
    /// [`Error::Invalid`] for none, more than 1,000 or malformed keys; [`Error::Domain`]; [`Error::Database`].
    pub async fn known(&self, keys: &[String]) -> Result<Vec<String>, Error> {
        check_keys(keys, KEYS_MAX)?;
        let mut tx = self.domain.begin().await.map_err(domain)?;
        let known = self.domain.known(&mut tx, keys).await.map_err(domain)?;
        tx.rollback().await?;
        Ok(known)
    }

    /// This home's copies, as [`Movable::copies`] says.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a limit that is not 1 to 1,000; [`Error::Domain`].
    pub async fn copies(
        &self,
        after: Option<&str>,
        upto: Option<&str>,
        limit: i64,
    ) -> Result<Vec<KeyCopy>, Error> {
        if !(1..=COPIES_MAX).contains(&limit) {
            let reason = format!("must be 1 to {COPIES_MAX}, not {limit}");
            return Err(Error::Invalid { field: "limit", reason });
        }
        self.domain.copies(after, upto, limit).await.map_err(domain)
    }

    /// Number and checksum of what [`Target::copies`] would answer.
    ///
    /// # Errors
    /// As [`Target::copies`].
    pub async fn checksum(
        &self,
        after: Option<&str>,
        upto: Option<&str>,
        limit: i64,
    ) -> Result<Checksum, Error> {
        Ok(Checksum::of(&self.copies(after, upto, limit).await?))
    }

    /// Publishes the state of those of these keys that are this home's to write and not called back, in one transaction, and returns the
    /// others with the reason. It holds up no write and waits for none.
    ///
    /// # Errors
    /// [`Error::Invalid`] for none, more than 100, malformed or repeated keys; [`Error::Domain`]; [`Error::Database`].
    pub async fn repair(&self, keys: &[String]) -> Result<Vec<Pinned>, Error> {
        check_keys(keys, REPAIRS_MAX)?;
        let mut names = keys.to_vec();
        names.sort();
        let mut tx = self.domain.begin().await.map_err(domain)?;
        policy::limit_waits(&mut tx, LOCK_TIMEOUT).await?;
        let rows = store::claim_to_publish(&mut tx, self.authority.migration(), &names).await?;
        let known = store::find(&mut tx, self.authority.migration(), &names).await?;
        let mut left = Vec::new();
        let mut mine = Vec::new();
        for key in names {
            match unpublished(rows.get(&key).copied(), known.contains_key(&key)) {
                None => mine.push(key),
                Some(why) => left.push(Pinned { key, why: why.to_owned() }),
            }
        }
        if !mine.is_empty() {
            let unsent = self.domain.snapshot(&mut tx, &mine).await.map_err(domain)?;
            left.extend(unsent.into_iter().map(|Pinned { key, why }| Pinned { key, why: cut(why) }));
        }
        tx.commit().await?;
        self.domain.committed();
        Ok(left)
    }

    /// Publishes a heartbeat of this home, in a transaction of its own.
    ///
    /// # Errors
    /// [`Error::Domain`]; [`Error::Database`].
    pub async fn beat(&self) -> Result<(), Error> {
        let mut tx = self.domain.begin().await.map_err(domain)?;
        policy::limit_waits(&mut tx, LOCK_TIMEOUT).await?;
        self.domain.beat(&mut tx).await.map_err(domain)?;
        tx.commit().await?;
        self.domain.committed();
        Ok(())
    }

    /// What this home's replica has heard of the source.
    ///
    /// # Errors
    /// [`Error::Domain`].
    pub async fn heard(&self) -> Result<Heard, Error> {
        self.domain.heard().await.map_err(domain)
    }

    /// How many keys were asked for with an epoch that is over, since this target was made.
    pub fn stale(&self) -> u64 {
        self.stale.load(Ordering::Relaxed)
    }

    async fn obey(&self, message: Message, keys: &[(String, Epoch)]) -> Result<Vec<(String, Reply)>, Error> {
        check(keys)?;
        let mut tx = self.domain.begin().await.map_err(domain)?;
        policy::limit_waits(&mut tx, LOCK_TIMEOUT).await?;
        let call = self.look(&mut tx, message, keys).await?;
        let Work { changed, mut released, gained, replies } = call.decide(keys);
        if !changed.is_empty() {
            store::put(&mut tx, self.authority.migration(), &changed).await?;
        }
        if !released.is_empty() {
            released.sort();
            self.domain.give(&mut tx, &released).await.map_err(domain)?;
        }
        if !gained.is_empty() {
            self.domain.gained(&mut tx, &gained).await.map_err(domain)?;
        }
        tx.commit().await?;
        if !released.is_empty() {
            self.domain.committed();
        }
        self.count(message, &replies);
        Ok(replies)
    }

    /// Locks the rows, then asks the domain: what it sees is what was committed before.
    async fn look(
        &self,
        tx: &mut PgTransaction<'static>,
        message: Message,
        keys: &[(String, Epoch)],
    ) -> Result<Call, Error> {
        let mut names: Vec<String> = keys.iter().map(|(key, _)| key.clone()).collect();
        names.sort();
        let migration = self.authority.migration();
        let rows = if message == Message::Ready {
            // What is ready stays so until the source decides: no row is locked for the question.
            store::find(tx, migration, &names).await?
        } else {
            let before = policy::limit_statements(tx, LOCK_TIMEOUT).await?;
            let rows = store::claim(tx, migration, &names).await.map_err(|error| locked(error, &names))?;
            policy::bound_statements(tx, &before).await?;
            rows
        };
        let pinned = if message == Message::Recall {
            self.domain.pinned(tx, &names).await.map_err(domain)?
        } else {
            Vec::new()
        };
        let known = self.domain.known(tx, &names).await.map_err(domain)?;
        Ok(Call {
            message,
            rows,
            pinned: pinned.into_iter().map(|pinned| (pinned.key, cut(pinned.why))).collect(),
            known: known.into_iter().collect(),
        })
    }

    fn count(&self, message: Message, replies: &[(String, Reply)]) {
        let stale: Vec<&str> =
            replies.iter().filter(|(_, reply)| *reply == Reply::Stale).map(|(key, _)| key.as_str()).collect();
        let Some(first) = stale.first() else { return };
        self.stale.fetch_add(u64::try_from(stale.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
        tracing::info!(?message, keys = stale.len(), such_as = first, "a control call of an earlier epoch");
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("authority", &self.authority).finish_non_exhaustive()
    }
}

fn check(keys: &[(String, Epoch)]) -> Result<(), Error> {
    let invalid = |reason: String| Err(Error::Invalid { field: "keys", reason });
    if !(1..=MOVES_MAX).contains(&keys.len()) {
        return invalid(format!("1 to {MOVES_MAX} are needed, not {}", keys.len()));
    }
    if keys.iter().any(|(key, _)| !(1..=KEY_BYTES_MAX).contains(&key.len())) {
        return invalid(format!("each must be 1 to {KEY_BYTES_MAX} bytes long"));
    }
    if keys.iter().any(|(_, epoch)| *epoch < Epoch::BIRTH) {
        return invalid("each epoch must be 1 or more".to_owned());
    }
    let distinct: BTreeSet<&str> = keys.iter().map(|(key, _)| key.as_str()).collect();
    if distinct.len() < keys.len() {
        return invalid("each may be named once".to_owned());
    }
    Ok(())
}

/// Keys without an epoch, at most so many.
pub(crate) fn check_keys(keys: &[String], keys_max: usize) -> Result<(), Error> {
    let invalid = |reason: String| Err(Error::Invalid { field: "keys", reason });
    if !(1..=keys_max).contains(&keys.len()) {
        return invalid(format!("1 to {keys_max} are needed, not {}", keys.len()));
    }
    if keys.iter().any(|key| !(1..=KEY_BYTES_MAX).contains(&key.len())) {
        return invalid(format!("each must be 1 to {KEY_BYTES_MAX} bytes long"));
    }
    let distinct: BTreeSet<&String> = keys.iter().collect();
    if distinct.len() < keys.len() {
        return invalid("each may be named once".to_owned());
    }
    Ok(())
}

fn cut(mut why: String) -> String {
    why.truncate(why.floor_char_boundary(WHY_BYTES_MAX));
    why
}

fn domain(error: BoxError) -> Error {
    Error::Domain(error.to_string())
}

/// Why the state of a key is not published from this row, if it is not: by the table.
fn unpublished(row: Option<Row>, known: bool) -> Option<&'static str> {
    if row.is_none() && known {
        return Some("its owner is being changed: try again");
    }
    let facts = Facts { quiet: false, known: true };
    match Row::step(row, Message::Snapshot, Epoch(0), facts) {
        Ok(_) => None,
        Err(Refusal::Moving) => Some("it is on its way back to the source, which takes its state with it"),
        Err(Refusal::NotOwner | Refusal::NotYet | Refusal::Busy | Refusal::Stale | Refusal::ForeignWrite) => {
            Some("it is not the target's to write")
        }
    }
}

fn locked(error: sqlx::Error, names: &[String]) -> Error {
    match code(&error).as_deref() {
        Some(LOCKED | CANCELED) => Error::Moving { key: names.first().cloned().unwrap_or_default() },
        _ => error.into(),
    }
}
