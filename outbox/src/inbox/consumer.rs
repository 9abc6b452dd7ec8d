//! The loop that reads the log and hands each record to its gates.

use std::{future::Future, time::Duration};

use sqlx::PgPool;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{
    Gate, InboxOptions,
    verdict::{chain, is_passing},
};
use crate::{
    Error, Message, Source, Topic,
    envelope::Envelope,
    store::{self, Unreadable},
};

pub(super) struct Consumer<S> {
    pub(super) pool: PgPool,
    pub(super) source: S,
    pub(super) gates: Vec<Gate>,
    pub(super) options: InboxOptions,
}

impl<S: Source> Consumer<S> {
    pub(super) async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        if self.patiently(&shutdown, || self.start()).await?.is_none() {
            return Ok(());
        }
        let mut sweep = tokio::time::interval(self.options.sweep_every);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                _ = sweep.tick() => {
                    self.patiently(&shutdown, || self.sweep()).await?;
                }
                message = self.source.recv() => {
                    self.take(&shutdown, message).await?;
                }
            }
        }
    }

    /// Claims the handlers' names and the group's place in the log.
    async fn start(&self) -> Result<(), Error> {
        let mut topics: Vec<Topic> = self.gates.iter().map(Gate::topic).collect();
        topics.sort_unstable();
        topics.dedup();
        for gate in &self.gates {
            store::register(&self.pool, gate.name()).await?;
        }
        let group = self.source.group();
        let mut started = Vec::new();
        for place in self.source.places(&topics).await? {
            let noted = store::subscribed(&self.pool, group, place.topic.name(), place.partition).await?;
            if noted && !place.positioned {
                return Err(Error::OffsetLost {
                    group: group.to_owned(),
                    topic: place.topic.name().to_owned(),
                    partition: place.partition,
                    reason: "the group has read it before, but its committed offset is gone".into(),
                });
            }
            if place.positioned {
                if !noted {
                    store::subscribe(&self.pool, group, place.topic.name(), place.partition).await?;
                }
                started.push(place);
            }
        }
        self.source.start(&topics, &started).await?;
        let handlers: Vec<&str> = self.gates.iter().map(Gate::name).collect();
        tracing::info!(group, ?handlers, "the inbox reads");
        Ok(())
    }

    async fn take(&self, shutdown: &CancellationToken, message: Result<Message, Error>) -> Result<(), Error> {
        match message {
            Ok(message) => {
                // Not noted as done when the shutdown came first: it is read again.
                if self.patiently(shutdown, || self.deal(&message)).await?.is_some()
                    && let Err(error) = self.source.done(&message.topic, message.partition, message.offset)
                {
                    tracing::warn!(error = chain(&error), "a position was not noted; the cursors decide");
                }
                Ok(())
            }
            Err(error @ (Error::OffsetLost { .. } | Error::Fenced { .. })) => Err(error),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the inbox waits for the broker");
                tokio::time::sleep(Duration::from_millis(100)).await;
                Ok(())
            }
        }
    }

    async fn deal(&self, message: &Message) -> Result<(), Error> {
        let event = match Envelope::of(message) {
            Ok(event) => event,
            Err(error) => {
                tracing::error!(
                    topic = message.topic,
                    partition = message.partition,
                    offset = message.offset,
                    error,
                    "a record can't be read; it is kept in outbox.unreadable"
                );
                let kept = Unreadable { error: &error, message };
                return Ok(store::keep_unreadable(&self.pool, self.source.group(), kept).await?);
            }
        };
        for gate in self.gates.iter().filter(|gate| gate.topic().name() == message.topic) {
            let dealt = gate.deal(&event).await?;
            tracing::debug!(handler = gate.name(), key = event.key, version = event.version, ?dealt, "event");
        }
        Ok(())
    }

    /// Tries parked events again whose time is up.
    async fn sweep(&self) -> Result<(), Error> {
        // Only now: a note without a position in the log would be a loss at the next start.
        for place in self.source.noted() {
            store::subscribe(&self.pool, self.source.group(), place.topic.name(), place.partition).await?;
        }
        for gate in &self.gates {
            for (topic, key) in store::due(&self.pool, gate.name(), self.options.sweep_max).await? {
                gate.drain(&topic, &key).await?;
            }
            gate.refill().await?;
        }
        Ok(())
    }

    /// Repeats work until it succeeds or `shutdown` comes (`None`), with a bounded wait between tries. Faults that waiting
    /// can't mend end it.
    async fn patiently<T, F: Future<Output = Result<T, Error>>>(
        &self,
        shutdown: &CancellationToken,
        work: impl Fn() -> F,
    ) -> Result<Option<T>, Error> {
        let mut delay = self.options.passing_delay;
        loop {
            let error = match work().await {
                Ok(done) => return Ok(Some(done)),
                Err(error) => error,
            };
            match &error {
                Error::Database(cause) if is_passing(cause) => {}
                Error::Broker(_) => {}
                // Only parked events that are applied make room.
                Error::ParkedFull { .. } => self.sweep().await.unwrap_or_else(|error| {
                    tracing::warn!(error = chain(&error), "parked events could not be tried");
                }),
                _ => return Err(error),
            }
            tracing::warn!(error = &error as &dyn std::error::Error, "the inbox waits");
            tokio::select! {
                () = shutdown.cancelled() => return Ok(None),
                () = tokio::time::sleep(delay) => {}
            }
            delay = (delay * 2).min(self.options.outage_delay_max);
        }
    }
}
