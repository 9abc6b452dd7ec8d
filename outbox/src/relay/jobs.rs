//! The relay's questions to its database. Each is a future that owns what it needs; several are under way at once.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use tokio::time::Instant;
use uuid::Uuid;

use super::{flight::Departure, gone::Scan, reader::Reading};
use crate::{
    Error, Sink,
    database::Database,
    store::{self, Delays, Delivered, Due, Fetched, Page, Range, Refusals},
};

type Result<T, E = Error> = std::result::Result<T, E>;

/// A question under way.
pub(super) type Job = BoxFuture<'static, Done>;

/// An answer, or the failure, of a question; with what must be done again if it failed.
pub(super) enum Done {
    Read {
        scan: Scan,
        reading: Reading,
        range: Range,
        took: Duration,
        page: Result<Page>,
    },
    Fetched {
        rows: Vec<Departure>,
        bytes: usize,
        events: Result<Vec<(i64, Fetched)>>,
    },
    /// `result`: whether all of them were there. `noteless`: there was no place for the note of it.
    Removed {
        rows: Vec<Delivered>,
        result: Result<bool>,
        noteless: bool,
    },
    Refused {
        refusals: Refusals,
        quarantined: Result<Vec<i64>>,
    },
    Due(Result<Option<Due>>),
    Leased {
        asked: Instant,
        lease: Result<Lease>,
    },
    Looked(Result<Vec<(String, String)>>),
}

/// What came of a renewal.
pub(super) enum Lease {
    Held {
        buckets: Vec<i16>,
        name_is_taken: bool,
    },
    /// The broker can't be reached; the buckets are free for a relay that can.
    CutOff(String),
}

pub(super) fn read(database: Database, scan: Scan, (reading, range): (Reading, Range)) -> Job {
    async move {
        let began = Instant::now();
        let page = database.with(async |db| store::read_page(db, &range).await).await;
        Done::Read { scan, reading, range, took: began.elapsed(), page }
    }
    .boxed()
}

pub(super) fn fetch(database: Database, rows: Vec<Departure>, bytes: usize) -> Job {
    async move {
        let (positions, times): (Vec<_>, Vec<_>) =
            rows.iter().map(|row| (row.position, row.created_at)).unzip();
        let limit = i64::try_from(bytes).unwrap_or(i64::MAX);
        let events = database.with(async |db| store::fetch(db, &positions, &times, limit).await).await;
        Done::Fetched { rows, bytes, events }
    }
    .boxed()
}

/// Forgets delivered rows, and notes it where a history is wanted. A note that has no place is let go: it must not hold up
/// what is delivered.
pub(super) fn remove(database: Database, mut rows: Vec<Delivered>, noted: bool) -> Job {
    rows.sort_unstable();
    async move {
        let mut noteless = false;
        let asked = database.with(async |db| {
            if noted {
                let removed = store::remove_noted(db, &rows).await;
                noteless = removed.as_ref().is_err_and(has_no_day);
                if !noteless {
                    return removed;
                }
            }
            store::remove(db, &rows).await
        });
        let result = asked.await;
        Done::Removed { rows, result, noteless }
    }
    .boxed()
}

/// 23514: the log has no day for the row; no other check is in these tables.
fn has_no_day(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|e| e.code().as_deref() == Some("23514"))
}

pub(super) fn refuse(database: Database, refusals: Refusals, attempts_max: i32) -> Job {
    async move {
        let quarantined = database.with(async |db| store::refuse(db, &refusals, attempts_max).await).await;
        Done::Refused { refusals, quarantined }
    }
    .boxed()
}

pub(super) fn due(database: Database, buckets: Vec<i16>, delays: Delays) -> Job {
    async move {
        let asked = database.with(async |db| store::claim_refused(db, &buckets, delays).await);
        Done::Due(asked.await)
    }
    .boxed()
}

/// Who renews a lease.
#[derive(Clone)]
pub(super) struct Tenant {
    pub(super) id: Uuid,
    pub(super) name: String,
    pub(super) ttl: Duration,
}

/// Renews the leases. A relay that can't reach the broker leaves its buckets to one that can.
pub(super) fn lease<S: Sink>(database: Database, sink: Arc<S>, tenant: Tenant, cut_off: bool) -> Job {
    async move {
        let asked = Instant::now();
        let lease = async {
            if cut_off {
                release(&database, tenant.id).await?;
                if let Err(error) = sink.check().await {
                    return Ok(Lease::CutOff(error.to_string()));
                }
            }
            renew(&database, &tenant).await
        };
        Done::Leased { asked, lease: lease.await }
    }
    .boxed()
}

async fn renew(database: &Database, tenant: &Tenant) -> Result<Lease> {
    let asked = database.with(async |db| {
        let buckets = store::lease(db, tenant.id, &tenant.name, tenant.ttl).await?;
        let name_is_taken = buckets.is_empty() && store::name_is_taken(db, tenant.id, &tenant.name).await?;
        Ok::<_, sqlx::Error>(Lease::Held { buckets, name_is_taken })
    });
    asked.await
}

/// Gives all leases back.
pub(super) async fn release(database: &Database, relay: Uuid) -> Result<()> {
    database.with(async |db| store::release(db, relay).await).await
}

/// Looks whether the topics can be written to.
pub(super) fn look<S: Sink>(database: Database, sink: Arc<S>) -> Job {
    async move {
        let asked = database.with(async |db| store::granted_topics(db).await);
        Done::Looked(match asked.await {
            Ok(topics) => sink.missing(&topics).await,
            Err(error) => Err(error),
        })
    }
    .boxed()
}

#[cfg(test)]
mod tests;
