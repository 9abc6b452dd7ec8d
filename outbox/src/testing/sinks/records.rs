//! Records that should arrive.

use futures::future::join_all;

use super::{Report, Rule, Sent, send};
use crate::{Sink, Topic};

/// Keys, and records of each, that are sent one after another.
const KEYS: usize = 8;
const PER_KEY: usize = 5;

/// Records of different keys that are sent at once.
const AT_ONCE: usize = 200;

/// The limits of `outbox.publish`.
const KEY_BYTES: usize = 255;
const PAYLOAD_BYTES: usize = 900_000;
const HEADER_BYTES: usize = 32_000;

/// A few keys, several records each, each sent after the last one's report; bytes that are not text, and none at all.
pub(super) async fn in_turn<S: Sink>(sink: &S, topic: Topic, sent: &mut Sent, report: &mut Report) {
    for n in 0..PER_KEY {
        for key in 0..KEYS {
            let payload = if n == 0 { Vec::new() } else { vec![0, 255, u8::try_from(n).unwrap_or(0)] };
            let record = sent.record(topic, format!("turn/{key} ß"), payload);
            let result = send(sink, &record, report).await;
            sent.note(record, result, Rule::Delivered, report);
        }
    }
}

/// Many keys at once, as a relay sends them.
pub(super) async fn at_once<S: Sink>(sink: &S, topic: Topic, sent: &mut Sent, report: &mut Report) {
    let records: Vec<_> =
        (0..AT_ONCE).map(|key| sent.record(topic, format!("once-{key}"), vec![7; 256])).collect();
    let send_timeout = report.send_timeout;
    let sends = records.iter().map(|record| async move {
        let mut own = Report::within(send_timeout);
        (send(sink, record, &mut own).await, own)
    });
    let results = join_all(sends).await;
    for (record, (result, own)) in records.into_iter().zip(results) {
        report.broken.extend(own.broken);
        sent.note(record, result, Rule::Delivered, report);
    }
}

/// The largest record that `outbox.publish` lets pass.
pub(super) async fn at_the_limits<S: Sink>(sink: &S, topic: Topic, sent: &mut Sent, report: &mut Report) {
    let mut record = sent.record(topic, "k".repeat(KEY_BYTES), vec![b'x'; PAYLOAD_BYTES]);
    record.headers.set("large", "h".repeat(HEADER_BYTES));
    let result = send(sink, &record, report).await;
    sent.note(record, result, Rule::Limits, report);
}
