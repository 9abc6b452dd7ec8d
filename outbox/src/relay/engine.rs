//! The running relay: one task in which reading, fetching, sending and forgetting overlap.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    RelayOptions, RelayStatus,
    flight::{Departure, Flight},
    jobs::{self, Done, Job, Tenant},
    reader::Reader,
    retries::Retries,
    window::Window,
};
use crate::{
    Error, Metrics, Sink, Wake,
    database::Database,
    store::{Delivered, Refusals},
};

/// Fetches, deletions and refills under way at once. The second begins only when much waits for it.
pub(super) const OVERLAP: usize = 2;

/// Rows that are worth a second deletion or fetch beside the first.
pub(super) const MUCH: usize = 128;

/// The longest the engine sleeps: a lane may have stalled meanwhile.
const TICK: Duration = Duration::from_millis(500);

/// How long deliveries are not noted after there was no place for a note.
const NOTELESS_FOR: Duration = Duration::from_secs(60);

/// Questions under way, by kind.
#[derive(Default)]
pub(super) struct Busy {
    forward: bool,
    pass: bool,
    refills: usize,
    fetches: usize,
    /// Rows that are being fetched, and the payload bytes they may bring.
    pub(super) rows: usize,
    pub(super) bytes: usize,
    pub(super) removals: usize,
    pub(super) refusal: bool,
    due: bool,
    lease: bool,
    look: bool,
}

pub(super) struct Engine<S> {
    pub(super) database: Database,
    pub(super) sink: Arc<S>,
    pub(super) options: RelayOptions,
    pub(super) tenant: Tenant,
    pub(super) wake: Wake,
    pub(super) status: watch::Sender<RelayStatus>,
    pub(super) metrics: Metrics,
    pub(super) window: Window,
    pub(super) reader: Reader,
    pub(super) flight: Flight<S>,
    pub(super) jobs: FuturesUnordered<Job>,
    pub(super) busy: Busy,
    /// Delivered, and not forgotten yet.
    pub(super) delivered: Vec<Delivered>,
    /// Refused, and not noted yet.
    pub(super) refusals: Refusals,
    pub(super) retries: Retries,
    /// Topics that took nothing when it was tried last: why, and when that was.
    pub(super) unwritable: BTreeMap<String, (String, Instant)>,
    pub(super) due: Dues,
    pub(super) outage: Duration,
    pub(super) stopping: bool,
}

/// When what is to be done.
pub(super) struct Dues {
    pub(super) lease: Instant,
    /// From then on nothing is sent.
    pub(super) lease_ends: Instant,
    pub(super) refused: Instant,
    pub(super) look: Instant,
    /// No note of a delivery before.
    pub(super) notes: Instant,
    /// A right was missing lately, which is told until then: other questions may be answered meanwhile.
    pub(super) denied: Instant,
    /// Deletions rest until then.
    pub(super) removal: Instant,
    /// The database failed: no question before.
    resume: Instant,
}

impl Dues {
    pub(super) fn now() -> Self {
        let now = Instant::now();
        Self {
            lease: now,
            lease_ends: now,
            refused: now,
            look: now,
            notes: now,
            denied: now,
            removal: now,
            resume: now,
        }
    }
}

impl<S: Sink> Engine<S> {
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            self.start();
            let due = self.next_due();
            let wake = self.wake.clone();
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(done) = self.jobs.next(), if !self.jobs.is_empty() => self.finish(done),
                landings = self.flight.landed() => landings.into_iter().for_each(|landing| self.land(landing)),
                () = wake.woken() => self.reader.wake(),
                () = tokio::time::sleep_until(due) => {}
            }
            while let Some(Some(done)) = self.jobs.next().now_or_never() {
                self.finish(done);
            }
        }
        self.stop().await;
    }

    /// Asks what is due and not asked yet.
    fn start(&mut self) {
        let now = Instant::now();
        if now < self.due.resume {
            return;
        }
        self.start_removals();
        if now >= self.due.lease && !self.busy.lease {
            self.start_lease();
        }
        if now >= self.due.look && !self.busy.look {
            self.busy.look = true;
            self.jobs.push(jobs::look(self.database.clone(), self.sink.clone()));
        }
        if now >= self.due.lease_ends {
            self.lapsed();
            return;
        }
        let trials = self.flight.lanes.trials();
        for position in trials.positions {
            self.window.unhold(position);
        }
        if trials.dropped {
            self.reader.look_again();
        }
        self.start_fetches();
        self.start_reads();
        if !self.busy.due && now >= self.retry_due(now) {
            self.busy.due = true;
            let delays = (self.options.refusal_delay_min, self.options.refusal_delay_max);
            self.jobs.push(jobs::due(self.database.clone(), self.reader.buckets(), delays));
        }
    }

    /// When to look for a refused record whose wait is over.
    fn retry_due(&self, now: Instant) -> Instant {
        self.retries.next(now).max(self.due.refused)
    }

    fn start_lease(&mut self) {
        self.busy.lease = true;
        let cut_off = self.flight.is_cut_off();
        if cut_off {
            self.due.lease_ends = Instant::now();
            self.hold(&[]);
        }
        self.jobs.push(jobs::lease(self.database.clone(), self.sink.clone(), self.tenant.clone(), cut_off));
    }

    fn start_reads(&mut self) {
        while self.busy.refills < OVERLAP {
            let Some(rest) = self.window.next_refill() else { break };
            self.busy.refills += 1;
            let scan = self.window.gone.begin();
            self.jobs.push(jobs::read(self.database.clone(), scan, Reader::refill(rest)));
        }
        if !self.busy.forward
            && let Some(reading) = self.reader.forward(self.room_in_window())
        {
            self.busy.forward = true;
            let scan = self.window.gone.begin();
            self.jobs.push(jobs::read(self.database.clone(), scan, reading));
        }
        if !self.busy.pass
            && self.window.len() < self.options.window_max
            && let Some(reading) = self.reader.pass()
        {
            self.busy.pass = true;
            let scan = self.window.gone.begin();
            self.jobs.push(jobs::read(self.database.clone(), scan, reading));
        }
    }

    /// A quarter of the slots is enough to keep a broker busy. With fewer keys than slots the window would else be filled
    /// with rows that are long from their turn, and those that find no room be read again.
    fn room_in_window(&self) -> usize {
        self.window.room(self.options.in_flight_max.div_ceil(4) + self.flight.lanes.stalled())
    }

    fn start_fetches(&mut self) {
        let enough = if self.busy.fetches == 0 { 1 } else { MUCH };
        let ready = self.window.ready();
        if ready < enough || self.busy.fetches >= OVERLAP {
            return;
        }
        let (rows, bytes) = self.flight.room(self.busy.rows);
        let bytes = bytes.saturating_sub(self.busy.bytes).div_ceil(2);
        let rows = rows.min(ready).min(self.options.fetch_rows);
        if rows < enough.min(ready) || bytes == 0 {
            return;
        }
        let departures: Vec<Departure> =
            std::iter::from_fn(|| self.window.take()).take(rows).map(Departure::first).collect();
        self.fetch(departures, bytes);
    }

    pub(super) fn fetch(&mut self, departures: Vec<Departure>, bytes: usize) {
        if departures.is_empty() {
            return;
        }
        self.busy.fetches += 1;
        self.busy.rows += departures.len();
        self.busy.bytes += bytes;
        self.jobs.push(jobs::fetch(self.database.clone(), departures, bytes));
    }

    /// When to look again, if nothing happens before.
    fn next_due(&self) -> Instant {
        let (now, busy) = (Instant::now(), &self.busy);
        let mut due = now + TICK;
        let mut at = |when: Instant, unless: bool| {
            if !unless {
                due = due.min(when);
            }
        };
        at(self.due.lease, busy.lease);
        at(self.due.look, busy.look);
        at(self.due.removal, busy.removals > 0 || self.delivered.is_empty());
        if now < self.due.lease_ends {
            at(self.retry_due(now), busy.due);
            if let Some(forward) = self.reader.forward_due() {
                at(forward, busy.forward || self.room_in_window() == 0);
            }
            if let Some(pass) = self.reader.pass_due() {
                at(pass, busy.pass || self.window.len() >= self.options.window_max);
            }
            if let Some(trial) = self.flight.lanes.next_trial() {
                at(trial, false);
            }
        }
        due.max(self.due.resume)
    }

    /// Takes an answer in.
    fn finish(&mut self, done: Done) {
        let failed = match done {
            Done::Read { scan, reading, range, took, page } => {
                match reading {
                    super::reader::Reading::Forward => self.busy.forward = false,
                    super::reader::Reading::Pass(_) => self.busy.pass = false,
                    super::reader::Reading::Refill(_) => self.busy.refills -= 1,
                }
                match page {
                    Ok(mut page) => {
                        let brought = std::mem::take(&mut page.events);
                        self.reader.absorb(&mut self.window, scan, (reading, &range), &page, took);
                        self.send_brought(brought);
                        None
                    }
                    Err(error) => {
                        self.reader.failed(&mut self.window, scan, reading);
                        Some(error)
                    }
                }
            }
            Done::Fetched { rows, bytes, events } => {
                self.busy.fetches -= 1;
                self.busy.rows -= rows.len();
                self.busy.bytes -= bytes;
                self.fetched(rows, events)
            }
            Done::Removed { rows, result, noteless } => {
                self.busy.removals -= 1;
                if noteless {
                    self.due.notes = Instant::now() + NOTELESS_FOR;
                    tracing::error!(
                        "outbox.sent has no day for now: deliveries go on and are not noted; see housekeeping"
                    );
                }
                self.removed(rows, result)
            }
            Done::Refused { refusals, quarantined } => {
                self.busy.refusal = false;
                self.refused(refusals, quarantined)
            }
            Done::Due(due) => {
                self.busy.due = false;
                self.refused_due(due)
            }
            Done::Leased { asked, lease } => {
                self.busy.lease = false;
                self.leased(asked, lease)
            }
            Done::Looked(missing) => {
                self.busy.look = false;
                self.due.look = Instant::now() + self.options.status_every;
                self.looked(missing)
            }
        };
        if let Some(error) = failed {
            self.failed(&error);
        }
    }

    /// The database failed, or a right is missing, which someone may give again: waits, longer each time.
    fn failed(&mut self, error: &Error) {
        self.status.send_if_modified(|status| {
            let why = Some(error.to_string());
            let changed = status.database != why;
            status.database = why;
            changed
        });
        let now = Instant::now();
        if matches!(error, Error::Denied(_)) {
            self.due.denied = now + self.options.lease_ttl;
        }
        if now >= self.due.resume {
            tracing::warn!(error = error as &dyn std::error::Error, "the relay waits for its database");
            self.due.resume = now + self.outage;
            self.outage = (self.outage * 2).min(self.options.outage_delay_max);
        }
    }

    /// Waits for what is in flight, at most `drain_timeout`, forgets what was delivered and gives the leases back.
    async fn stop(mut self) {
        self.stopping = true;
        let until = Instant::now() + self.options.drain_timeout;
        while self.is_draining() && Instant::now() < until {
            let mut wake = until;
            if Instant::now() >= self.due.resume {
                self.start_removals();
            } else {
                wake = self.due.resume.min(until);
            }
            tokio::select! {
                Some(done) = self.jobs.next(), if !self.jobs.is_empty() => self.finish(done),
                landings = self.flight.landed() => landings.into_iter().for_each(|landing| self.land(landing)),
                () = tokio::time::sleep_until(wake) => {}
            }
        }
        if self.is_draining() {
            let in_flight = self.flight.len();
            tracing::warn!(
                in_flight,
                "not all reports came in time, or could be noted; those records are sent again"
            );
        }
        // A renewal that is under way would come after the leases were given back, and hold them for a relay that is gone.
        while self.busy.lease && Instant::now() < until {
            tokio::select! {
                Some(done) = self.jobs.next(), if !self.jobs.is_empty() => self.finish(done),
                () = tokio::time::sleep_until(until) => {}
            }
        }
        // What is still asked holds connections that nobody serves any more.
        self.jobs.clear();
        let farewell = async {
            jobs::release(&self.database, self.tenant.id).await?;
            self.database.close().await;
            Ok::<(), Error>(())
        };
        match tokio::time::timeout(self.options.drain_timeout, farewell).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "the leases could not be given back; they end by themselves");
            }
            Err(_) => tracing::warn!("the database did not answer; the leases end by themselves"),
        }
        tracing::info!(relay = %self.tenant.id, "the relay stopped");
    }

    fn is_draining(&self) -> bool {
        let unnoted = !self.delivered.is_empty() || !self.refusals.positions.is_empty();
        self.flight.len() > 0 || unnoted || self.busy.removals > 0 || self.busy.refusal
    }
}
