//! What is on its way to the broker.

use std::sync::Arc;

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::{RelayOptions, lanes::Lanes, window::Taken};
use crate::{Refusal, Sink, Tracer, envelope, store::Logged};

/// A row that was handed to the sink, or would have been.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) bucket: i16,
    pub(super) position: i64,
    pub(super) created_at: OffsetDateTime,
    /// Refusals before this one.
    pub(super) attempts: i32,
    /// It came from the lane of the refused.
    pub(super) refused_before: bool,
    pub(super) topic: String,
    lane: u64,
    bytes: usize,
}

pub(super) type Landing = (Sent, Result<(), Refusal>);

/// A row to send.
#[derive(Debug, Clone, Copy)]
pub(super) struct Departure {
    pub(super) bucket: i16,
    pub(super) position: i64,
    pub(super) created_at: OffsetDateTime,
    pub(super) attempts: i32,
    pub(super) refused_before: bool,
}

impl Departure {
    /// Of a row that was never refused.
    pub(super) fn first(Taken { bucket, position, created_at }: Taken) -> Self {
        Self { bucket, position, created_at, attempts: 0, refused_before: false }
    }
}

/// The records in flight.
pub(super) struct Flight<S> {
    sink: Arc<S>,
    tracer: Tracer,
    pub(super) lanes: Lanes,
    sends: FuturesUnordered<BoxFuture<'static, Landing>>,
    rows_max: usize,
    bytes_max: usize,
    down_since: Option<Instant>,
    cut_off_after: std::time::Duration,
}

impl<S: Sink> Flight<S> {
    pub(super) fn new(sink: Arc<S>, tracer: Tracer, options: &RelayOptions) -> Self {
        let delay = (options.outage_delay_min, options.outage_delay_max);
        Self {
            sink,
            tracer,
            lanes: Lanes::new(options.stall_after, delay),
            sends: FuturesUnordered::new(),
            rows_max: options.in_flight_max,
            bytes_max: options.in_flight_bytes_max,
            down_since: None,
            cut_off_after: options.lease_ttl,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.sends.len()
    }

    /// Rows and bytes that still fit, with `on_the_way` rows being fetched.
    pub(super) fn room(&self, on_the_way: usize) -> (usize, usize) {
        let (rows, bytes) = self.lanes.load();
        (self.rows_max.saturating_sub(rows + on_the_way), self.bytes_max.saturating_sub(bytes))
    }

    /// Whether nothing was delivered, and outages were met, for as long as a lease holds.
    pub(super) fn is_cut_off(&self) -> bool {
        self.down_since.is_some_and(|since| since.elapsed() >= self.cut_off_after)
    }

    /// The broker answers again.
    pub(super) fn reconnected(&mut self) {
        self.down_since = None;
    }

    /// Hands a row to the sink. Returns its lane when that takes nothing now.
    pub(super) fn send(&mut self, row: Departure, event: Logged) -> Result<(), u64> {
        let lane = self.sink.lane(&event.topic, &event.key);
        if !self.lanes.is_open(lane) {
            return Err(lane);
        }
        let Departure { bucket, position, created_at, attempts, refused_before } = row;
        let (topic, bytes) = (event.topic.clone(), event.payload.len());
        let sent = Sent { bucket, position, created_at, attempts, refused_before, topic, lane, bytes };
        self.lanes.took_off(lane, position, bytes);
        let (sink, record) = (self.sink.clone(), envelope::record(event));
        let span = self.tracer.send(&record);
        let sending = async move {
            let send = if refused_before { sink.send_alone(record) } else { sink.send(record) };
            let result = span.within(send).await;
            span.ended(result.as_ref().err().map(ToString::to_string));
            (sent, result)
        };
        self.sends.push(sending.boxed());
        Ok(())
    }

    /// Waits until something has landed; for ever when nothing is in flight. Cancel safe: what was returned is all that left.
    pub(super) async fn landed(&mut self) -> Vec<Landing> {
        let Some(first) = self.sends.next().await else { return std::future::pending().await };
        let mut landings = vec![first];
        while let Some(Some(landing)) = self.sends.next().now_or_never() {
            landings.push(landing);
        }
        landings
    }

    /// Notes what a report says of the broker. Returns the positions that may go on, and whether others must be read again.
    pub(super) fn note(&mut self, (sent, result): &Landing) -> super::lanes::Released {
        if let Err(Refusal::Outage(why)) = result {
            self.down_since.get_or_insert_with(Instant::now);
            self.lanes.outage(sent.lane, &sent.topic, why);
        } else {
            self.down_since = None;
        }
        let lane_is_up = matches!(result, Ok(()) | Err(Refusal::Record(_)));
        self.lanes.landed(sent.lane, sent.bytes, lane_is_up)
    }

    pub(super) fn lane_of(sent: &Sent) -> u64 {
        sent.lane
    }
}
