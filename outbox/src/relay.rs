//! The relay: sends what was committed, per key in order.
//!
//! Order rests on three rules. Only a delivery report removes a row from the queue; at most one record of a key is in
//! flight; and a row is sent only when the key's row before it is gone, checked in the statement that claims it. So a relay
//! that was paused or cut off can repeat a record, but never overtake one.

mod flight;
mod options;

use std::{collections::HashMap, sync::Arc, time::Duration};

use sqlx::PgPool;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::flight::Flight;
pub use self::options::RelayOptions;
use crate::{
    Error, Sink,
    store::{self, Room},
};

/// Sends the events of one database to a [`Sink`]. Any number may run; they share the work by leases.
pub struct Relay<S> {
    pool: PgPool,
    sink: Arc<S>,
    options: RelayOptions,
    id: Uuid,
    buckets: Vec<i16>,
    floors: HashMap<i16, i64>,
    lease_due: Instant,
    lease_ends: Instant,
    floors_due: Instant,
    partitions_due: Instant,
    claim_due: Instant,
    refused_due: Instant,
    idle: Duration,
}

impl<S: Sink> Relay<S> {
    /// A relay over a pool whose role was granted `outbox.grant_relay`.
    pub fn new(pool: PgPool, sink: S) -> Self {
        let now = Instant::now();
        let options = RelayOptions::default();
        Self {
            pool,
            sink: Arc::new(sink),
            idle: options.poll_min,
            options,
            id: Uuid::now_v7(),
            buckets: Vec::new(),
            floors: HashMap::new(),
            lease_due: now,
            lease_ends: now,
            floors_due: now,
            partitions_due: now,
            claim_due: now,
            refused_due: now,
        }
    }

    /// Replaces the bounds.
    #[must_use]
    pub fn with(mut self, options: RelayOptions) -> Self {
        self.idle = options.poll_min;
        self.options = options;
        self
    }

    /// Sends until `shutdown`, then waits for what is in flight (at most `drain_timeout`) and gives its leases back. A
    /// database or broker that is down is waited for; nothing is dropped.
    ///
    /// # Errors
    /// [`Error::Denied`] when the role lacks its rights: waiting would not help.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), Error> {
        tracing::info!(relay = %self.id, "the relay starts");
        let mut flight = Flight::new(self.sink.clone(), &self.options);
        while !shutdown.is_cancelled() {
            match self.turn(&mut flight).await {
                Ok(()) => {}
                Err(error @ Error::Denied(_)) => return Err(error),
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the relay waits for its database"
                    );
                    tokio::select! {
                        () = shutdown.cancelled() => {}
                        () = tokio::time::sleep(self.options.outage_delay_max) => {}
                    }
                    continue;
                }
            }
            let due = self.next_due(&flight);
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = flight.landed() => {}
                () = tokio::time::sleep_until(due) => {}
            }
        }
        self.stop(flight).await
    }

    /// One round: keep the leases, forget what was delivered, claim and send.
    async fn turn(&mut self, flight: &mut Flight<S>) -> Result<(), Error> {
        flight.settle(&self.pool).await?;
        let now = Instant::now();
        if now >= self.partitions_due {
            self.make_partitions().await;
        }
        if now >= self.lease_due {
            self.renew(flight).await?;
        }
        if now >= self.lease_ends {
            return Ok(());
        }
        if now >= self.floors_due {
            let slack = self.options.floor_slack;
            let floors = store::floors(&self.pool, &self.buckets).await?;
            self.floors = floors.into_iter().map(|(bucket, floor)| (bucket, floor - slack)).collect();
            self.floors_due = now + self.options.floor_every;
        }
        if now >= self.claim_due && flight.may_send() {
            self.claim(flight).await?;
        }
        Ok(())
    }

    async fn claim(&mut self, flight: &mut Flight<S>) -> Result<(), Error> {
        let (buckets, floors): (Vec<i16>, Vec<i64>) =
            self.buckets.iter().map(|b| (*b, self.floors.get(b).copied().unwrap_or(0))).unzip();
        let in_flight = flight.positions();
        let (rows, bytes) = flight.room();
        let room = Room { in_flight: &in_flight, per_bucket: self.options.per_bucket_max, rows, bytes };
        let mut claimed = store::claim(&self.pool, (&buckets, &floors), room).await?;
        // A poll that found nothing waits longer before the next one, up to `poll_max`.
        self.idle = if claimed.is_empty() {
            (self.idle * 2).min(self.options.poll_max)
        } else {
            self.options.poll_min
        };
        self.claim_due = Instant::now() + self.idle;
        if Instant::now() >= self.refused_due && !flight.is_retrying() {
            let refused = store::claim_refused(&self.pool, &buckets, &in_flight).await?;
            let pause = if refused.is_some() { Duration::ZERO } else { self.options.refused_every };
            self.refused_due = Instant::now() + pause;
            claimed.extend(refused);
        }
        for row in claimed {
            flight.send(row);
        }
        Ok(())
    }

    /// Renews the leases. A relay that can't reach the broker leaves its buckets to one that can.
    async fn renew(&mut self, flight: &mut Flight<S>) -> Result<(), Error> {
        let asked = Instant::now();
        if flight.is_cut_off() {
            self.lease_due = asked + self.options.outage_delay_max;
            self.lease_ends = asked;
            store::release(&self.pool, self.id).await?;
            if let Err(error) = self.sink.check().await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cut off from the broker; the buckets are free"
                );
                return Ok(());
            }
            flight.reconnected();
        }
        let asked = Instant::now();
        self.buckets = store::lease(&self.pool, self.id, self.options.lease_ttl).await?;
        // Counted from before the question, so that it ends here no later than in the database.
        self.lease_ends = asked + self.options.lease_ttl;
        self.lease_due = asked + self.options.lease_ttl / 3;
        self.floors.retain(|bucket, _| self.buckets.contains(bucket));
        Ok(())
    }

    /// Keeps the log's partitions ahead. A failure is not the relay's end: there are days of them left.
    async fn make_partitions(&mut self) {
        match store::make_partitions(&self.pool, self.options.partition_days).await {
            Ok(made) => {
                tracing::debug!(made, "partitions ahead");
                self.partitions_due = Instant::now() + self.options.partition_every;
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "partitions could not be made; trying again"
                );
                self.partitions_due = Instant::now() + self.options.partition_retry;
            }
        }
    }

    fn next_due(&self, flight: &Flight<S>) -> Instant {
        let claim = if flight.may_send() { self.claim_due } else { flight.resume_at(self.lease_due) };
        claim.min(self.lease_due)
    }

    async fn stop(self, mut flight: Flight<S>) -> Result<(), Error> {
        flight.drain(&self.pool, self.options.drain_timeout).await;
        store::release(&self.pool, self.id).await?;
        tracing::info!(relay = %self.id, "the relay stopped");
        Ok(())
    }
}
