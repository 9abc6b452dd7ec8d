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
    span::Begun,
    start::{Company, Started},
    verdict::chain,
    work::{Done, keep, work},
};
use crate::{Error, Message, Source, Topic, database::Database, envelope::Envelope};

/// How long reading rests after a fault of the broker.
const FAULT_PAUSE: Duration = Duration::from_millis(100);

/// Records taken from the source before work is handed out again.
const TURN_MAX: usize = 500;

/// The records in hand, and the transactions at work on them. Everything is decided here, by one task.
pub(super) struct Reading<'a, S> {
    source: &'a S,
    database: Database,
    lanes: Vec<Lane>,
    /// Where each lane's handler begins: what is before is not for it.
    begun: Vec<Begun>,
    /// To be told at every assignment.
    company: Company,
    /// Read, and from before the beginning of all handlers.
    passed_over: Vec<Ticket>,
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
    full_since: Instant,
    held_back: bool,
}

impl<'a, S: Source> Reading<'a, S> {
    pub(super) fn new(
        source: &'a S,
        pool: &PgPool,
        gates: &[Arc<Gate>],
        started: Started,
        options: &'a InboxOptions,
        stop: CancellationToken,
    ) -> Self {
        // The rest of the pool is for the sweep and for whatever else the module does.
        let half = usize::try_from(pool.options().get_max_connections() / 2).unwrap_or(usize::MAX);
        Self {
            source,
            database: Database::new(pool.clone(), options.statement_timeout),
            lanes: gates.iter().map(|gate| Lane::new(gate.clone())).collect(),
            begun: started.begun,
            company: started.company,
            passed_over: Vec::new(),
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
            full_since: Instant::now(),
            held_back: false,
        }
    }

    /// Reads until it is told to stop, then finishes the transactions at work. What was read and not begun is read again at
    /// the next start.
    pub(super) async fn run(mut self) -> Result<(), Error> {
        let mut ended = Ok(());
        while ended.is_ok() && !self.stop.is_cancelled() {
            ended = self.turn().await;
        }
        self.stop.cancel();
        while let Some(done) = self.running.join_next().await {
            let settled = self.settle(done);
            ended = ended.and(settled);
        }
        ended
    }

    /// Hands out work, waits for something to happen, and takes what has come meanwhile.
    async fn turn(&mut self) -> Result<(), Error> {
        self.tell_company().await?;
        if self.stop.is_cancelled() {
            return Ok(());
        }
        self.pass_over();
        self.hand_out();
        self.hold_if_full();
        let reads = self.has_room() || self.held_back;
        tokio::select! {
            () = self.stop.cancelled() => return Ok(()),
            Some(done) = self.running.join_next() => self.settle(done)?,
            message = Self::next(self.source, self.read_again_at), if reads => self.take(message)?,
            () = tokio::time::sleep_until(self.full_since + self.options.hold_after), if !reads => {}
        }
        for _ in 0..TURN_MAX {
            if !self.has_room() || Instant::now() < self.read_again_at {
                break;
            }
            let Some(message) = self.source.recv().now_or_never() else { break };
            self.take(message)?;
        }
        Ok(())
    }

    /// At every assignment, before a record of it is dealt with. Untold only when the stop came first.
    async fn tell_company(&self) -> Result<(), Error> {
        let assigned = self.source.assigned();
        if !assigned.is_empty() {
            let gate = &self.lanes[0].gate;
            self.patience.until(|| self.company.tell(gate, self.source, &assigned)).await?;
        }
        Ok(())
    }

    fn pass_over(&mut self) {
        let mut passed = Vec::new();
        for ticket in self.passed_over.drain(..) {
            if let Some(offset) = self.marks.close(ticket) {
                note(&mut passed, &ticket, offset);
            }
        }
        for (topic, partition, offset) in passed {
            self.done(topic, partition, offset);
        }
    }

    /// A member that does not poll is thrown out of its group, and keeps the others from sharing until then. So what is full
    /// for long is polled on, while the source brings nothing.
    fn hold_if_full(&mut self) {
        let now = Instant::now();
        if self.held * 2 <= self.options.buffer_max && self.held_bytes * 2 <= self.options.buffer_bytes_max {
            self.full_since = now;
            if self.held_back {
                tracing::info!(group = self.source.group(), "the inbox reads on");
                self.held_back = false;
                self.source.hold(false);
            }
        } else if self.has_room() && !self.held_back {
            self.full_since = now;
        } else if now >= self.full_since + self.options.hold_after {
            if !self.held_back {
                tracing::warn!(
                    group = self.source.group(),
                    held = self.held,
                    "the inbox holds its source back"
                );
            }
            self.held_back = true;
            self.full_since = now;
            // Again each time: partitions may have come since.
            self.source.hold(true);
        }
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
                if self.held_back && !self.has_room() {
                    // Of a partition that has just come, perhaps.
                    self.source.hold(true);
                }
                self.sort_in(message)
            }
            Err(error @ (Error::OffsetLost { .. } | Error::Fenced { .. })) => Err(error),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the inbox waits for the broker");
                self.read_again_at = Instant::now() + FAULT_PAUSE;
                Ok(())
            }
        }
    }

    fn sort_in(&mut self, message: Message) -> Result<(), Error> {
        let topic = self.lanes.iter().map(|lane| lane.gate.topic()).find(|t| t.name() == message.topic);
        let Some(topic) = topic else { return Ok(()) };
        self.check_left_out(topic, &message)?;
        let Message { partition, offset, .. } = message;
        let wanting = |(lane, begun): &(&Lane, &Begun)| {
            lane.gate.topic() == topic && begun.offsets.of(partition) <= offset
        };
        let handlers = self.lanes.iter().zip(&self.begun).filter(wanting).count();
        if handlers == 0 {
            self.passed_over.push(self.marks.open(topic, partition, offset, 1));
            return Ok(());
        }
        match Envelope::of(&message) {
            Ok(event) => {
                let event = Arc::new(event);
                let ticket = self.marks.open(topic, partition, offset, handlers);
                let lanes = self.lanes.iter_mut().zip(&self.begun);
                for (lane, _) in lanes.filter(|(lane, begun)| wanting(&(&**lane, *begun))) {
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
                    self.database.clone(),
                    group,
                    message,
                    error,
                    ticket,
                    self.patience.clone(),
                ));
            }
        }
        Ok(())
    }

    /// What is from before a handler's beginning is not for it, unless the beginning is of a topic that is gone.
    fn check_left_out(&self, topic: Topic, message: &Message) -> Result<(), Error> {
        for (lane, begun) in self.lanes.iter().zip(&self.begun).filter(|(lane, _)| lane.gate.topic() == topic)
        {
            if let Some(published) = begun.contradicted_by(message) {
                return Err(Error::OffsetLost {
                    group: self.source.group().to_owned(),
                    topic: topic.name().to_owned(),
                    partition: message.partition,
                    reason: format!(
                        "handler {} began at offset {}, but offset {} was published after that, at {published}: the topic was \
                         made anew, or is of another cluster. Give the handler another name",
                        lane.gate.name(),
                        begun.offsets.of(message.partition),
                        message.offset
                    ),
                });
            }
        }
        Ok(())
    }

    /// Begins a transaction for each free connection, with what is there.
    fn hand_out(&mut self) {
        let lanes = self.lanes.len();
        while self.running.len() < self.concurrency && !self.stop.is_cancelled() {
            let next = (0..lanes).map(|n| (self.next_lane + n) % lanes).find(|n| self.lanes[*n].is_ready());
            let Some(n) = next else { return };
            self.next_lane = n + 1;
            let gate = self.lanes[n].gate.clone();
            let items = self.lanes[n].take(gate.batch_max());
            self.running.spawn(work(n, gate, items, self.patience.clone()));
        }
    }

    fn settle(&mut self, done: Result<Result<Done, Error>, tokio::task::JoinError>) -> Result<(), Error> {
        let done = match done {
            Ok(done) => done?,
            // Nothing aborts these tasks, and a handler's panic ends in the gate: this is a fault of ours.
            Err(fault) => return Err(Error::Setup(format!("a task of the inbox failed: {fault}"))),
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
            self.done(topic, partition, offset);
        }
        Ok(())
    }

    fn done(&self, topic: Topic, partition: i32, offset: i64) {
        if let Err(error) = self.source.done(topic.name(), partition, offset) {
            tracing::warn!(error = chain(&error), "a position was not noted; the cursors decide");
        }
    }
}

/// Keeps the furthest offset of each partition.
fn note(passed: &mut Vec<(Topic, i32, i64)>, ticket: &Ticket, offset: i64) {
    match passed.iter_mut().find(|at| at.0 == ticket.topic && at.1 == ticket.partition) {
        Some(at) => at.2 = offset,
        None => passed.push((ticket.topic, ticket.partition, offset)),
    }
}
