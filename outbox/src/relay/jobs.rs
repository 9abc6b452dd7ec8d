//! The relay's questions to its database. Each is a future that owns what it needs; several are under way at once.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use sqlx::PgPool;
use tokio::time::Instant;
use uuid::Uuid;

use super::{RelayOptions, flight::Departure, gone::Scan, reader::Reading};
use crate::{
    Error, Sink,
    store::{self, Due, Fetched, Page, Range, Refusals},
};

type Result<T, E = Error> = std::result::Result<T, E>;

/// A question under way.
pub(super) type Job = BoxFuture<'static, Done>;

/// An answer, or the failure, of a question; with what must be done again if it failed.
pub(super) enum Done {
    Read { scan: Scan, reading: Reading, range: Range, took: Duration, page: Result<Page> },
    Fetched { rows: Vec<Departure>, bytes: usize, events: Result<Vec<(i64, Fetched)>> },
    Removed { rows: Vec<(i16, i64)>, result: Result<()> },
    Refused { refusals: Refusals, quarantined: Result<Vec<i64>> },
    Due(Result<Option<Due>>),
    Leased { asked: Instant, lease: Result<Lease> },
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

/// Connections of the relay's own. All it asks are look-ups by index, and a plan that was made while a table was empty must
/// not read it whole later; so the other plans are switched off. Its commits need not wait for the disk: what is lost with
/// them is sent again.
pub(super) fn own_pool(pool: &PgPool, connections_max: u32) -> PgPool {
    let settings = [
        ("enable_seqscan", "off"),
        ("enable_bitmapscan", "off"),
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
        ("max_parallel_workers_per_gather", "0"),
        ("jit", "off"),
        ("synchronous_commit", "off"),
    ];
    let options = (*pool.connect_options()).clone().options(settings);
    pool.options()
        .clone()
        .min_connections(0)
        .max_connections(connections_max.max(1))
        .connect_lazy_with(options)
}

pub(super) fn read(pool: PgPool, scan: Scan, (reading, range): (Reading, Range)) -> Job {
    async move {
        let began = Instant::now();
        let page = store::read_page(&pool, &range).await.map_err(Error::from);
        Done::Read { scan, reading, range, took: began.elapsed(), page }
    }
    .boxed()
}

pub(super) fn fetch(pool: PgPool, rows: Vec<Departure>, bytes: usize) -> Job {
    async move {
        let (positions, times): (Vec<_>, Vec<_>) =
            rows.iter().map(|row| (row.position, row.created_at)).unzip();
        let limit = i64::try_from(bytes).unwrap_or(i64::MAX);
        let events = store::fetch(&pool, &positions, &times, limit).await.map_err(Error::from);
        Done::Fetched { rows, bytes, events }
    }
    .boxed()
}

/// Forgets delivered rows, and notes it where a history is wanted.
pub(super) fn remove(pool: PgPool, mut rows: Vec<(i16, i64)>, options: &RelayOptions) -> Job {
    rows.sort_unstable();
    let noted = options.note_deliveries;
    async move {
        let (buckets, positions): (Vec<_>, Vec<_>) = rows.iter().copied().unzip();
        let result = if noted {
            store::remove_noted(&pool, &buckets, &positions).await
        } else {
            store::remove(&pool, &buckets, &positions).await
        };
        let result = result.map_err(Error::from);
        Done::Removed { rows, result }
    }
    .boxed()
}

pub(super) fn refuse(pool: PgPool, refusals: Refusals, attempts_max: i32) -> Job {
    async move {
        let quarantined = store::refuse(&pool, &refusals, attempts_max).await.map_err(Error::from);
        Done::Refused { refusals, quarantined }
    }
    .boxed()
}

pub(super) fn due(pool: PgPool, buckets: Vec<i16>) -> Job {
    async move { Done::Due(store::refused_due(&pool, &buckets).await.map_err(Error::from)) }.boxed()
}

/// Who renews a lease.
#[derive(Clone)]
pub(super) struct Tenant {
    pub(super) id: Uuid,
    pub(super) name: String,
    pub(super) ttl: Duration,
}

/// Renews the leases. A relay that can't reach the broker leaves its buckets to one that can.
pub(super) fn lease<S: Sink>(pool: PgPool, sink: Arc<S>, tenant: Tenant, cut_off: bool) -> Job {
    async move {
        let asked = Instant::now();
        let lease = async {
            if cut_off {
                store::release(&pool, tenant.id).await?;
                if let Err(error) = sink.check().await {
                    return Ok(Lease::CutOff(error.to_string()));
                }
            }
            let buckets = store::lease(&pool, tenant.id, &tenant.name, tenant.ttl).await?;
            let name_is_taken =
                buckets.is_empty() && store::name_is_taken(&pool, tenant.id, &tenant.name).await?;
            Ok(Lease::Held { buckets, name_is_taken })
        };
        Done::Leased { asked, lease: lease.await }
    }
    .boxed()
}

/// Looks whether the topics can be written to.
pub(super) fn look<S: Sink>(pool: PgPool, sink: Arc<S>) -> Job {
    async move {
        let missing = async {
            let topics = store::granted_topics(&pool).await?;
            sink.missing(&topics).await
        };
        Done::Looked(missing.await)
    }
    .boxed()
}

#[cfg(test)]
mod tests;
