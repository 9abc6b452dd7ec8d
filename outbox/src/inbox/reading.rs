//! Reads the log and hands its records to the gates: by key at the same time, and many in one transaction.

use std::{sync::Arc, time::Duration};

use futures::FutureExt as _;
use sqlx::PgPool;
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Gate, InboxOptions,
    lane::{Item, Lane},
    marks::{Marks, Ticket},
    patience::Patience,
    verdict::chain,
    work::{Done, keep, work},
};
use crate::{Error, Message, Source, Topic, envelope::Envelope};

/// How long reading rests after a fault of the broker.
const FAULT_PAUSE: Duration = Duration::from_millis(100);

/// Records taken from the source before work is handed out again.
const TURN_MAX: usize = 500;

/// The records in hand, and the transactions at work on them. Everything is decided here, by one task.
pub(super) struct Reading<'a, S> {
    source: &'a S,
    pool: PgPool,
    lanes: Vec<Lane>,
    marks: Marks,
    running: JoinSet<Result<Done, Error>>,
    /// Records read and not dealt with, once per handler, and their bytes.
    held: usize,
    held_bytes: usize,
    concurrency: usize,
    options: &'a InboxOptions,
    patience: Patience,
    stop: CancellationToken,
    read_again_at: Instant,
    next_lane: usize,
}

impl<'a, S: Source> Reading<'a, S> {
    pub(super) fn new(
        source: &'a S,
        pool: &PgPool,
        gates: &[Arc<Gate>],
        options: &'a InboxOptions,
        stop: CancellationToken,
    ) -> Self {
        // The rest of the pool is for the sweep and for whatever else the module does.
        let half = usize::try_from(pool.options().get_max_connections() / 2).unwrap_or(usize::MAX);
        Self {
            source,
            pool: pool.clone(),
            lanes: gates.iter().map(|gate| Lane::new(gate.clone())).collect(),
            marks: Marks::default(),
            running: JoinSet::new(),
            held: 0,
            held_bytes: 0,
            concurrency: options.concurrency.min(half).max(1),
            options,
            patience: Patience::new(options, stop.clone()),
            stop,
            read_again_at: Instant::now(),
            next_lane: 0,
        }
    }

    /// Reads until it is told to stop, then finishes the transactions at work. What was read and not begun is read again at
    /// the next start.
    pub(super) async fn run(mut self) -> Result<(), Error> {
        while !self.stop.is_cancelled() {
            self.hand_out();
            tokio::select! {
                () = self.stop.cancelled() => break,
                Some(done) = self.running.join_next() => self.settle(done)?,
                message = Self::next(self.source, self.read_again_at), if self.has_room() => self.take(message)?,
            }
            for _ in 0..TURN_MAX {
                if !self.has_room() || Instant::now() < self.read_again_at {
                    break;
                }
                let Some(message) = self.source.recv().now_or_never() else { break };
                self.take(message)?;
            }
        }
        while let Some(done) = self.running.join_next().await {
            self.settle(done)?;
        }
        Ok(())
    }

    async fn next(source: &S, not_before: Instant) -> Result<Message, Error> {
        tokio::time::sleep_until(not_before).await;
        source.recv().await
    }

    fn has_room(&self) -> bool {
        self.held < self.options.buffer_max && self.held_bytes < self.options.buffer_bytes_max
    }

    fn take(&mut self, message: Result<Message, Error>) -> Result<(), Error> {
        match message {
            Ok(message) => {
                self.sort_in(message);
                Ok(())
            }
            Err(error @ (Error::OffsetLost { .. } | Error::Fenced { .. })) => Err(error),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the inbox waits for the broker");
                self.read_again_at = Instant::now() + FAULT_PAUSE;
                Ok(())
            }
        }
    }

    fn sort_in(&mut self, message: Message) {
        let topic = self.lanes.iter().map(|lane| lane.gate.topic()).find(|t| t.name() == message.topic);
        let Some(topic) = topic else { return };
        let wanting = |lane: &Lane| lane.gate.topic() == topic;
        let Message { partition, offset, .. } = message;
        match Envelope::of(&message) {
            Ok(event) => {
                let event = Arc::new(event);
                let handlers = self.lanes.iter().filter(|lane| wanting(lane)).count();
                let ticket = self.marks.open(topic, partition, offset, handlers);
                for lane in self.lanes.iter_mut().filter(|lane| wanting(lane)) {
                    self.held += 1;
                    self.held_bytes += event.payload.len();
                    lane.push(Item { event: event.clone(), ticket });
                }
            }
            Err(error) => {
                let ticket = self.marks.open(topic, partition, offset, 1);
                self.held += 1;
                self.held_bytes += message.payload.len();
                let group = self.source.group().to_owned();
                self.running.spawn(keep(
                    self.pool.clone(),
                    group,
                    message,
                    error,
                    ticket,
                    self.patience.clone(),
                ));
            }
        }
    }

    /// Begins a transaction for each free connection, with what is there.
    fn hand_out(&mut self) {
        let lanes = self.lanes.len();
        while self.running.len() < self.concurrency && !self.stop.is_cancelled() {
            let next = (0..lanes).map(|n| (self.next_lane + n) % lanes).find(|n| self.lanes[*n].is_ready());
            let Some(n) = next else { return };
            self.next_lane = n + 1;
            let items = self.lanes[n].take(self.options.batch_max.max(1));
            self.running.spawn(work(n, self.lanes[n].gate.clone(), items, self.patience.clone()));
        }
    }

    fn settle(&mut self, done: Result<Result<Done, Error>, tokio::task::JoinError>) -> Result<(), Error> {
        let done = match done {
            Ok(done) => done?,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        self.held -= done.records;
        self.held_bytes -= done.bytes;
        let mut passed: Vec<(Topic, i32, i64)> = Vec::new();
        for (ticket, dealt) in &done.dealt {
            if let (Some(n), Some(dealt), false) = (done.lane, dealt, ticket.again) {
                self.lanes[n].gate.count(*dealt, 1);
            }
            if let Some(offset) = self.marks.close(*ticket) {
                note(&mut passed, ticket, offset);
            }
        }
        if let Some(n) = done.lane {
            self.lanes[n].release(done.keys);
        }
        for (topic, partition, offset) in passed {
            if let Err(error) = self.source.done(topic.name(), partition, offset) {
                tracing::warn!(error = chain(&error), "a position was not noted; the cursors decide");
            }
        }
        Ok(())
    }
}

/// Keeps the furthest offset of each partition.
fn note(passed: &mut Vec<(Topic, i32, i64)>, ticket: &Ticket, offset: i64) {
    match passed.iter_mut().find(|at| at.0 == ticket.topic && at.1 == ticket.partition) {
        Some(at) => at.2 = offset,
        None => passed.push((ticket.topic, ticket.partition, offset)),
    }
}
