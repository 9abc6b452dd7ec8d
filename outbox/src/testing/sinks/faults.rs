//! What a sink says when the broker does not take a record.

use futures::future::join;

use super::{Broker, Report, Rule, Sent, send, sent::Expected};
use crate::{Refusal, Sink, Topic};

/// A record that the broker refuses, with a good one beside it.
pub(super) async fn refusal<S: Sink>(
    sink: &S,
    broker: &impl Broker,
    topic: Topic,
    sent: &mut Sent,
    report: &mut Report,
) {
    let Some(bad) = broker.refused(topic) else {
        report.untried.push(Rule::Refusal);
        return;
    };
    let bad = sent.numbered(bad);
    let good = sent.record(topic, "beside a refused one".into(), vec![1]);
    let mut other = Report::within(report.send_timeout);
    let (refused, passed) = join(send(sink, &bad, report), send(sink, &good, &mut other)).await;
    report.broken.extend(other.broken);
    if !matches!(refused, Some(Err(Refusal::Record(_))) | None) {
        report.broken(Rule::Refusal, format!("a record that the broker refuses ended as {refused:?}"));
    }
    sent.note_as(bad, Expected::Absent, Rule::Refusal);
    let passed = match passed {
        // A broker may refuse a whole batch for one record in it; sent again by itself, the good one passes.
        Some(Err(Refusal::Record(_))) => send(sink, &good, report).await,
        other => other,
    };
    sent.note(good, passed, Rule::Refusal, report);
}

/// A broker that goes down and comes back.
pub(super) async fn outage<S: Sink>(
    sink: &S,
    broker: &impl Broker,
    topic: Topic,
    sent: &mut Sent,
    report: &mut Report,
) {
    if !broker.outage(true).await {
        report.untried.push(Rule::Outage);
        return;
    }
    if sink.check().await.is_ok() {
        report.broken(Rule::Check, "the broker is down, and check() finds it");
    }
    let record = sent.record(topic, "outage".into(), vec![1]);
    match send(sink, &record, report).await {
        Some(Err(Refusal::Outage(_))) | None => {}
        Some(Ok(())) => report.broken(Rule::Outage, "a send to a broker that is down returned well"),
        Some(Err(Refusal::Record(why))) => {
            report.broken(Rule::Outage, format!("an outage is blamed on the record: {why}"));
        }
        Some(Err(Refusal::Topic(why))) => {
            report.broken(Rule::Outage, format!("an outage is blamed on the topic: {why}"));
        }
    }
    sent.note_as(record, Expected::Either, Rule::Outage);
    broker.outage(false).await;
    let record = sent.record(topic, "after an outage".into(), vec![2]);
    let result = send(sink, &record, report).await;
    sent.note(record, result, Rule::Outage, report);
}
