//! The rules that a [`Sink`] must keep for the outbox's promises to hold, and a suite that tries them.
//!
//! ```no_run
//! # use outbox::{BoxError, Message, Topic, memory::Memory, testing::sinks};
//! struct InMemory(Memory);
//!
//! impl sinks::Broker for InMemory {
//!     async fn read(&self, topic: Topic, _: usize) -> Result<Vec<Message>, BoxError> {
//!         Ok(self.0.records(topic.name()))
//!     }
//! }
//!
//! # async fn story() -> Result<(), BoxError> {
//! let broker = InMemory(Memory::new(3));
//! let report = sinks::try_all(&broker.0.sink(), &broker, Topic::new("suite.v1")).await?;
//! report.assert();
//! # Ok(()) }
//! ```

mod faults;
mod records;
mod report;
mod sent;

use std::{future::Future, time::Duration};

pub use self::report::{Broken, Report, Rule};
use self::sent::Sent;
use crate::{BoxError, Message, Record, Refusal, Sink, Topic};

/// Within this time every send must return, if the [`Broker`] does not say otherwise.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(90);

/// What the suite needs to know of the broker behind a sink.
pub trait Broker: Sync {
    /// All records of `topic`, each partition in its order; waits within a bound of its own until there are `count`, and a
    /// moment longer for records that should not be there.
    fn read(&self, topic: Topic, count: usize)
    -> impl Future<Output = Result<Vec<Message>, BoxError>> + Send;

    /// A record that the broker refuses for what it is, such as one that is too large. Without one, that rule is not tried.
    fn refused(&self, _topic: Topic) -> Option<Record> {
        None
    }

    /// Within this time every send must return ([`SEND_TIMEOUT`]).
    fn send_timeout(&self) -> Duration {
        SEND_TIMEOUT
    }

    /// Takes the broker down, or brings it up again, and says whether it did. `false`: the rule of outages is not tried.
    fn outage(&self, _down: bool) -> impl Future<Output = bool> + Send {
        async { false }
    }
}

/// Tries all rules on a topic that nothing else writes to and that has been created, best with several partitions. Takes
/// seconds, not minutes, unless a send takes its whole time.
///
/// # Errors
/// What [`Broker::read`] fails with; a broken rule is no error but part of the report.
pub async fn try_all<S: Sink>(sink: &S, broker: &impl Broker, topic: Topic) -> Result<Report, BoxError> {
    let mut report = Report::within(broker.send_timeout());
    if let Err(error) = sink.check().await {
        report.broken(Rule::Check, format!("the broker is up, and check() says: {error}"));
    }
    let mut sent = Sent::default();
    records::in_turn(sink, topic, &mut sent, &mut report).await;
    records::at_once(sink, topic, &mut sent, &mut report).await;
    records::at_the_limits(sink, topic, &mut sent, &mut report).await;
    faults::refusal(sink, broker, topic, &mut sent, &mut report).await;
    faults::outage(sink, broker, topic, &mut sent, &mut report).await;
    let found = broker.read(topic, sent.delivered()).await?;
    sent.compare(&found, &mut report);
    Ok(report)
}

/// Sends within the bound; `None` and a broken rule when it takes longer.
async fn send<S: Sink>(sink: &S, record: &Record, report: &mut Report) -> Option<Result<(), Refusal>> {
    let sent = tokio::time::timeout(report.send_timeout, sink.send(record.clone())).await.ok();
    if sent.is_none() {
        report.broken(Rule::Bounded, format!("a send did not return within {:?}", report.send_timeout));
    }
    sent
}
