//! What is on its way to the broker.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use sqlx::PgPool;
use tokio::time::Instant;

use super::RelayOptions;
use crate::{Error, Refusal, Sink, envelope, store, store::Claimed};

/// A row that was handed to the sink.
struct Sent {
    bucket: i16,
    position: i64,
    attempts: i32,
    bytes: usize,
}

type Landing = (Sent, Result<(), Refusal>);

/// The records in flight, and those that landed but are not noted in the database yet. A position stays known here until
/// the database has forgotten it, so that it is not sent twice in a row.
pub(super) struct Flight<S> {
    sink: Arc<S>,
    options: RelayOptions,
    sends: FuturesUnordered<BoxFuture<'static, Landing>>,
    landed: Vec<Landing>,
    known: HashSet<i64>,
    bytes: usize,
    retries: usize,
    resume: Instant,
    outage: Duration,
    down_since: Option<Instant>,
}

impl<S: Sink> Flight<S> {
    pub(super) fn new(sink: Arc<S>, options: &RelayOptions) -> Self {
        Self {
            sink,
            options: options.clone(),
            sends: FuturesUnordered::new(),
            landed: Vec::new(),
            known: HashSet::new(),
            bytes: 0,
            retries: 0,
            resume: Instant::now(),
            outage: options.outage_delay_min,
            down_since: None,
        }
    }

    /// Whether there is room, and the broker was not found down a moment ago.
    pub(super) fn may_send(&self) -> bool {
        self.known.len() < self.options.in_flight_max
            && self.bytes < self.options.in_flight_bytes_max
            && Instant::now() >= self.resume
    }

    /// When to try again after an outage; `otherwise` when only a landing makes room.
    pub(super) fn resume_at(&self, otherwise: Instant) -> Instant {
        if Instant::now() < self.resume { self.resume } else { otherwise }
    }

    /// Whether nothing was delivered, and outages were met, for as long as a lease holds.
    pub(super) fn is_cut_off(&self) -> bool {
        self.down_since.is_some_and(|since| since.elapsed() >= self.options.lease_ttl)
    }

    /// Whether a record that was refused before is on its way again. They go one by one: a broker refuses a whole batch for
    /// one record in it, and two that are retried together would refuse each other for ever.
    pub(super) fn is_retrying(&self) -> bool {
        self.retries > 0
    }

    /// The broker answers again.
    pub(super) fn reconnected(&mut self) {
        self.down_since = None;
    }

    /// Rows and bytes that still fit.
    pub(super) fn room(&self) -> (i64, i64) {
        let rows = self.options.in_flight_max.saturating_sub(self.known.len());
        let bytes = self.options.in_flight_bytes_max.saturating_sub(self.bytes);
        (i64::try_from(rows).unwrap_or(i64::MAX), i64::try_from(bytes).unwrap_or(i64::MAX))
    }

    pub(super) fn positions(&self) -> Vec<i64> {
        self.known.iter().copied().collect()
    }

    /// Hands a row to the sink. One whose event is missing lands at once, refused: it gates its key.
    pub(super) fn send(&mut self, row: Claimed) {
        let Claimed { bucket, position, attempts, event } = row;
        self.known.insert(position);
        self.retries += usize::from(attempts > 0);
        let Some(event) = event else {
            let lost = Refusal::Record("its event is missing from outbox.event, or unreadable".into());
            self.landed.push((Sent { bucket, position, attempts, bytes: 0 }, Err(lost)));
            return;
        };
        let bytes = event.payload.len();
        self.bytes += bytes;
        let (sink, record) = (self.sink.clone(), envelope::record(event));
        let sent = Sent { bucket, position, attempts, bytes };
        self.sends.push(async move { (sent, sink.send(record).await) }.boxed());
    }

    /// Waits until something has landed; for ever when nothing is in flight. Cancel safe.
    pub(super) async fn landed(&mut self) {
        if !self.landed.is_empty() {
            return;
        }
        match self.sends.next().await {
            Some(landing) => self.landed.push(landing),
            None => std::future::pending().await,
        }
        while let Some(Some(landing)) = self.sends.next().now_or_never() {
            self.landed.push(landing);
        }
    }

    /// Notes in the database what landed: delivered rows are removed, refused ones wait. What can't be noted stays landed
    /// and is noted the next time.
    pub(super) async fn settle(&mut self, pool: &PgPool) -> Result<(), Error> {
        let (buckets, positions): (Vec<i16>, Vec<i64>) = self
            .landed
            .iter()
            .filter(|(_, result)| result.is_ok())
            .map(|(sent, _)| (sent.bucket, sent.position))
            .unzip();
        if !positions.is_empty() {
            store::remove(pool, &buckets, &positions).await?;
            self.outage = self.options.outage_delay_min;
            self.down_since = None;
            self.forget(|result| result.is_ok());
        }
        let refusals = self.refusals();
        if !refusals.positions.is_empty() {
            store::refuse(pool, &refusals).await?;
            self.forget(|result| matches!(result, Err(Refusal::Record(_))));
        }
        if let Some((_, Err(outage))) = self.landed.first() {
            tracing::warn!(error = %outage, in_flight = self.known.len(), "the broker is down; the relay waits");
            self.down_since.get_or_insert_with(Instant::now);
            self.resume = Instant::now() + self.outage;
            self.outage = (self.outage * 2).min(self.options.outage_delay_max);
            self.forget(Result::is_err);
        }
        Ok(())
    }

    /// What landed refused, as the database takes it.
    fn refusals(&self) -> store::Refusals {
        let mut refusals = store::Refusals::default();
        for (sent, result) in &self.landed {
            let Err(error @ Refusal::Record(_)) = result else { continue };
            let doublings = u32::try_from(sent.attempts.clamp(0, 16)).unwrap_or(0);
            let delay = self.options.refusal_delay_min * 2u32.pow(doublings);
            let (position, attempts) = (sent.position, sent.attempts + 1);
            tracing::error!(position, attempts, %error, "a record was refused; its key waits");
            refusals.buckets.push(sent.bucket);
            refusals.positions.push(position);
            refusals.errors.push(error.to_string().replace('\0', "\u{fffd}"));
            refusals.delays.push(delay.min(self.options.refusal_delay_max).as_secs_f64());
        }
        refusals
    }

    fn forget(&mut self, which: impl Fn(&Result<(), Refusal>) -> bool) {
        for (sent, _) in self.landed.extract_if(.., |(_, result)| which(result)) {
            self.known.remove(&sent.position);
            self.bytes -= sent.bytes;
            self.retries -= usize::from(sent.attempts > 0);
        }
    }

    /// Waits for what is in flight, at most `timeout`, and notes what landed.
    pub(super) async fn drain(&mut self, pool: &PgPool, timeout: Duration) {
        let until = Instant::now() + timeout;
        while !self.sends.is_empty() {
            if tokio::time::timeout_at(until, self.landed()).await.is_err() {
                tracing::warn!(
                    in_flight = self.sends.len(),
                    "not all reports came in time; those records are sent again"
                );
                break;
            }
            if let Err(error) = self.settle(pool).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "deliveries could not be noted");
                return;
            }
        }
        if let Err(error) = self.settle(pool).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "deliveries could not be noted");
        }
    }
}
