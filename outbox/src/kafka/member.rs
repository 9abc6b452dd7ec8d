//! What a member of a consumer group does when partitions are assigned to it.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::{KafkaError, KafkaResult},
    types::RDKafkaRespErr,
};
use tokio::sync::Notify;

use super::client::REQUEST_TIMEOUT;
use crate::{Place, Topic};

/// Decides where each assigned partition is read from: at the committed offset; without one, at the beginning, unless the
/// group has read it before. The group's other members need not leave for that, as they would have to before an offset could
/// be committed from outside.
#[derive(Default)]
pub(super) struct Member {
    state: Mutex<State>,
    faulted: Notify,
}

#[derive(Default)]
struct State {
    /// By their names in the cluster.
    topics: HashMap<String, Topic>,
    started: HashSet<(String, i32)>,
    noted: Vec<Place>,
    assigned: Vec<Place>,
    held: bool,
    fault: Option<Fault>,
}

/// Why an assignment can't be read.
pub(super) enum Fault {
    /// It was read before, and has no position now.
    Lost { topic: String, partition: i32 },
    /// The broker did not tell the positions; nothing is assigned.
    Unknown(KafkaError),
}

impl Member {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn expect(&self, topics: HashMap<String, Topic>, started: HashSet<(String, i32)>) {
        let mut state = self.state();
        state.topics = topics;
        state.started.extend(started);
    }

    pub(super) fn topics(&self) -> HashMap<String, Topic> {
        self.state().topics.clone()
    }

    pub(super) fn take_fault(&self) -> Option<Fault> {
        self.state().fault.take()
    }

    pub(super) fn take_noted(&self) -> Vec<Place> {
        std::mem::take(&mut self.state().noted)
    }

    pub(super) fn take_assigned(&self) -> Vec<Place> {
        std::mem::take(&mut self.state().assigned)
    }

    /// Whether partitions that are assigned from now on are paused.
    pub(super) fn hold(&self, held: bool) {
        self.state().held = held;
    }

    /// Waits until an assignment can't be read.
    pub(super) async fn faulted(&self) {
        self.faulted.notified().await;
    }

    fn fail(&self, fault: Fault) {
        self.state().fault = Some(fault);
        self.faulted.notify_one();
    }

    /// Takes an assignment. What is held back is paused at once, and what was paused when it went to another member and is back
    /// is read again: librdkafka keeps a pause across assignments.
    fn assign(&self, consumer: &BaseConsumer<Self>, positions: &TopicPartitionList) -> KafkaResult<()> {
        // Before anything of it can be read.
        self.begins(positions);
        consumer.assign(positions)?;
        if self.state().held { consumer.pause(positions) } else { consumer.resume(positions) }
    }

    fn begins(&self, positions: &TopicPartitionList) {
        let mut state = self.state();
        for at in positions.elements() {
            let Some(topic) = state.topics.get(at.topic()).copied() else { continue };
            let position = match at.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            };
            state.assigned.push(Place { topic, partition: at.partition(), position });
        }
    }

    /// The assignment with the offsets to read from.
    fn positions(
        &self,
        consumer: &BaseConsumer<Self>,
        assigned: &TopicPartitionList,
    ) -> Result<TopicPartitionList, Fault> {
        if assigned.count() == 0 {
            return Ok(assigned.clone());
        }
        // Blocks the reader, not longer than a request takes: nothing can be read before it is answered.
        let committed =
            consumer.committed_offsets(assigned.clone(), REQUEST_TIMEOUT).map_err(Fault::Unknown)?;
        let mut positions = TopicPartitionList::new();
        for at in committed.elements() {
            at.error().map_err(Fault::Unknown)?;
            let (topic, partition) = (at.topic().to_owned(), at.partition());
            let offset = match at.offset() {
                Offset::Invalid if self.state().started.contains(&(topic.clone(), partition)) => {
                    return Err(Fault::Lost { topic, partition });
                }
                Offset::Invalid => Offset::Beginning,
                committed => committed,
            };
            positions.add_partition_offset(&topic, partition, offset).map_err(Fault::Unknown)?;
        }
        Ok(positions)
    }
}

impl ClientContext for Member {}

impl ConsumerContext for Member {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        what: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let done = match what {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                match self.positions(consumer, partitions) {
                    Ok(positions) => {
                        tracing::info!(partitions = positions.count(), "partitions were assigned");
                        self.assign(consumer, &positions)
                    }
                    Err(fault) => {
                        self.fail(fault);
                        consumer.unassign()
                    }
                }
            }
            _ => consumer.unassign(),
        };
        if let Err(error) = done {
            self.fail(Fault::Unknown(error));
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        if result.is_err() {
            return;
        }
        let mut state = self.state();
        for at in offsets.elements() {
            let Some(topic) = state.topics.get(at.topic()).copied() else { continue };
            if let (Offset::Offset(offset), Ok(())) = (at.offset(), at.error()) {
                let partition = at.partition();
                if state.started.insert((at.topic().to_owned(), partition)) {
                    state.noted.push(Place { topic, partition, position: Some(offset) });
                }
            }
        }
    }
}
