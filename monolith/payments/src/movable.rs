//! What a hand-over needs of payments, the same at both homes: which may move, giving them up, going on with them.
//!
//! Each function works in a transaction of the caller, read committed, which has locked the owner rows of its payments. Payments are named
//! by their keys, as a migration knows them: a key that is no payment's is [`Error::Corrupt`].

use std::collections::{HashMap, HashSet};

use outbox::{Held, HeldBy, Outgoing};
use proto::{InvalidId, PAYMENTS, PaymentId, events as wire};
use sqlx::postgres::PgTransaction;
use uuid::Uuid;

use crate::store::{self, Standing};
use crate::whole::{hash, wholes};
use crate::{Epoch, Error};

/// The largest payload of an event.
const PAYLOAD_BYTES_MAX: i64 = 900_000;
/// Records that are published by one statement: of the largest, they are still within what one may take.
const PUBLISHED_AT_ONCE: usize = 50;

/// Why a payment without a row stays.
const NOT_APPLIED: &str = "its first event is not applied here yet";

/// By which record a home gives a payment up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// The source's.
    Offer,
    /// The target's.
    Release,
}

/// Of these payments, those that can't move now, and why; in the order given. The rows of the others are locked when this returns.
/// A payment that is requested and not begun may move: its next owner begins.
///
/// # Errors
/// [`Error::Database`], [`Error::Outbox`], [`Error::Corrupt`].
pub async fn pinned(tx: &mut PgTransaction<'_>, payments: &[String]) -> Result<Vec<(String, String)>, Error> {
    let ids = uuids(payments)?;
    let keys = keys(&ids);
    let free: HashSet<Uuid> = store::lock_free(tx, &ids).await?.into_iter().collect();
    // Statements of their own: what they see is not older than the locks.
    let standings = store::standings(tx, PAYMENTS.name(), &ids).await?;
    let standings: HashMap<Uuid, Standing> = standings.into_iter().map(|it| (it.id, it)).collect();
    let mut held: HashMap<String, Held> = HashMap::new();
    for one in outbox::held(tx, PAYMENTS, &keys).await? {
        held.entry(one.key.clone()).or_insert(one);
    }
    let pinned = ids.iter().zip(&keys).filter_map(|(id, key)| {
        Some((key.clone(), why(standings.get(id), free.contains(id), held.get(key))?))
    });
    Ok(pinned.collect())
}

fn why(standing: Option<&Standing>, free: bool, held: Option<&Held>) -> Option<String> {
    let Some(standing) = standing else { return Some(NOT_APPLIED.to_owned()) };
    let Standing { open, claimed, .. } = standing;
    if let Some(operation) = open {
        let article = if operation.starts_with('a') { "an" } else { "a" };
        return Some(format!("{article} {operation} is under way"));
    }
    if *claimed {
        return Some("a command is in flight under an idempotency key".to_owned());
    }
    unpublishable(standing, free).or_else(|| held.map(waits))
}

/// Why the whole of a payment can't be published now.
fn unpublishable(standing: &Standing, free: bool) -> Option<String> {
    let Standing { version, head, bytes, .. } = standing;
    if !free {
        return Some("another transaction has its row".to_owned());
    }
    if version != head {
        return Some(format!("it is at version {version} here, and its stream at {head}"));
    }
    if *bytes > PAYLOAD_BYTES_MAX {
        return Some(format!("its whole, of up to {bytes} bytes, is too large for one event"));
    }
    None
}

fn waits(held: &Held) -> String {
    let what = match held.by {
        HeldBy::Parked => "an event of it is parked",
        HeldBy::Dead => "an event of it was given up and waits for an operator",
        HeldBy::Missing => "events of it are missing",
        HeldBy::Awaiting => "it awaits a snapshot",
        HeldBy::Quarantined => "an event of it is in quarantine",
    };
    match &held.handler {
        Some(handler) => format!("{what} (handler {handler})"),
        None => what.to_owned(),
    }
}

/// Publishes the whole of each payment, with its hash and the epoch at which it is given up. Nothing is pinned of them: their rows
/// were locked by [`pinned`] in this transaction.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Behind`] when a row is not what its stream ends with; [`Error::Outbox`]. All of them are for a
/// payment that [`pinned`] tells, and nothing is published then, once the transaction is rolled back. [`Error::Corrupt`].
pub async fn give(tx: &mut PgTransaction<'_>, given: &[(&str, Epoch)], record: Record) -> Result<(), Error> {
    let epochs = given.iter().map(|(key, epoch)| Ok::<_, Error>((payment(key)?, *epoch)));
    let epochs = epochs.collect::<Result<HashMap<PaymentId, Epoch>, Error>>()?;
    let ids: Vec<Uuid> = epochs.keys().map(|payment| payment.uuid()).collect();
    let record = |payment: PaymentId, whole: wire::PaymentSnapshot| {
        // Each is one of those that were given.
        let epoch = epochs.get(&payment).map_or(0, |epoch| epoch.0);
        message(record, epoch, whole)
    };
    publish(tx, ids, record).await
}

/// Publishes the whole of each of these payments that can be published now as an ordinary snapshot, and returns the others with the
/// reason. A payment need not be quiet: what is under way goes on from the next version.
///
/// # Errors
/// [`Error::Database`], [`Error::Outbox`], [`Error::Corrupt`].
pub async fn snapshot(
    tx: &mut PgTransaction<'_>,
    payments: &[String],
) -> Result<Vec<(String, String)>, Error> {
    let ids = uuids(payments)?;
    let free: HashSet<Uuid> = store::lock_free(tx, &ids).await?.into_iter().collect();
    let standings = store::standings(tx, PAYMENTS.name(), &ids).await?;
    let standings: HashMap<Uuid, Standing> = standings.into_iter().map(|it| (it.id, it)).collect();
    let why = |id: Uuid| match standings.get(&id) {
        Some(standing) => unpublishable(standing, free.contains(&id)),
        None => Some(NOT_APPLIED.to_owned()),
    };
    let left: Vec<(String, String)> = ids.iter().filter_map(|id| Some((id.to_string(), why(*id)?))).collect();
    let fit: Vec<Uuid> = ids.into_iter().filter(|id| why(*id).is_none()).collect();
    if !fit.is_empty() {
        publish(tx, fit, |_, whole| Box::new(whole) as Box<dyn Outgoing>).await?;
    }
    Ok(left)
}

/// Publishes a record of the whole of each payment. Their rows are locked.
async fn publish(
    tx: &mut PgTransaction<'_>,
    mut ids: Vec<Uuid>,
    record: impl Fn(PaymentId, wire::PaymentSnapshot) -> Box<dyn Outgoing>,
) -> Result<(), Error> {
    ids.sort_unstable();
    let before = store::lock_all(tx, &ids).await?;
    if before.len() != ids.len() {
        return Err(Error::NotFound);
    }
    let heads = store::lock_heads(tx, PAYMENTS.name(), &keys(&ids)).await?;
    for (payment, head) in before.iter().zip(heads) {
        if payment.version != head {
            return Err(Error::Behind { here: payment.version, head });
        }
    }
    let wholes = wholes(tx, &before).await?;
    let records: Vec<Box<dyn Outgoing>> =
        before.iter().zip(wholes).map(|(payment, whole)| record(payment.id, whole)).collect();
    let mut versions = Vec::with_capacity(records.len());
    for some in records.chunks(PUBLISHED_AT_ONCE) {
        let some: Vec<&dyn Outgoing> = some.iter().map(|record| &**record).collect();
        versions.extend(outbox::publish_all(tx, &some).await?);
    }
    for (payment, version) in before.iter().zip(versions) {
        if version != payment.version + 1 {
            return Err(Error::Behind { here: payment.version, head: version - 1 });
        }
    }
    store::advance(tx, &ids).await?;
    Ok(())
}

fn message(record: Record, epoch: i64, whole: wire::PaymentSnapshot) -> Box<dyn Outgoing> {
    let hash = hash(&whole);
    match record {
        Record::Offer => Box::new(wire::AuthorityOffered { epoch, whole: Some(whole), hash }),
        Record::Release => Box::new(wire::AuthorityReleased { epoch, whole: Some(whole), hash }),
    }
}

/// These payments are this home's from the commit of `tx` on: an engine looks at those that have work before them.
///
/// # Errors
/// [`Error::Database`], [`Error::Corrupt`].
pub async fn gained(tx: &mut PgTransaction<'_>, payments: &[String]) -> Result<(), Error> {
    let ids = uuids(payments)?;
    store::look_now(tx, &ids).await?;
    store::due_now(tx, &ids).await
}

/// Those of which this home's copy is whole: it was started, and awaits no snapshot.
///
/// # Errors
/// [`Error::Database`], [`Error::Outbox`], [`Error::Corrupt`].
pub async fn known(tx: &mut PgTransaction<'_>, payments: &[String]) -> Result<Vec<String>, Error> {
    let ids = uuids(payments)?;
    let keys = keys(&ids);
    let here: HashSet<Uuid> = store::present(tx, &ids).await?.into_iter().collect();
    let held = outbox::held(tx, PAYMENTS, &keys).await?;
    let awaiting: HashSet<String> =
        held.into_iter().filter(|held| held.by == HeldBy::Awaiting).map(|held| held.key).collect();
    let known = ids.iter().zip(keys).filter(|(id, key)| here.contains(*id) && !awaiting.contains(key));
    Ok(known.map(|(_, key)| key).collect())
}

/// The payment with this key.
pub(crate) fn payment(key: &str) -> Result<PaymentId, Error> {
    let corrupt = |error: InvalidId| Error::Corrupt { what: "a payment's key", source: Box::new(error) };
    key.parse::<PaymentId>().map_err(corrupt)
}

fn uuids(keys: &[String]) -> Result<Vec<Uuid>, Error> {
    keys.iter().map(|key| Ok(payment(key)?.uuid())).collect()
}

/// As the streams have them.
fn keys(ids: &[Uuid]) -> Vec<String> {
    ids.iter().map(Uuid::to_string).collect()
}
