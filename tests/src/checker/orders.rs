//! Every accepted order has an end, and everyone tells the same of it.

use std::collections::{BTreeSet, HashMap};

use outbox::{Event as _, Incoming};
use proto::events::{PaymentCaptured, PaymentRefunded, PaymentState, PaymentStatus};
use proto::{OrderStream, PaymentStream};

use super::{Accepted, Ended, Evidence, Findings, Order, Payment};
use crate::kafka::Record;

/// What each party says of the payments, by payment.
struct Told<'a> {
    /// The last record of the payment's stream.
    topic: HashMap<&'a str, &'a Record>,
    /// Versions of the payment's stream that took money, and that returned it.
    moved: HashMap<(&'a str, &'static str), BTreeSet<i64>>,
    /// How the order's stream says that it ended, by order.
    ends: HashMap<&'a str, Vec<Ended>>,
    /// The clearing account at the owner.
    clearing: HashMap<&'a str, i64>,
    /// What adjustments added to it, because the provider had it.
    adjusted: HashMap<&'a str, i64>,
    /// The provider's movements.
    taken: HashMap<&'a str, i64>,
    /// Payments whose owner has a command without an outcome.
    unknown: BTreeSet<&'a str>,
    /// Streams that are older than the log.
    older: &'a HashMap<String, i64>,
}

pub(super) fn check(evidence: &Evidence, findings: &mut Findings) {
    let told = Told::collect(evidence);
    let client: HashMap<&str, &Accepted> = evidence.accepted.iter().map(|a| (a.order.as_str(), a)).collect();
    for order in evidence.orders.values() {
        findings.accepted += 1;
        one(evidence, &told, order, client.get(order.id.as_str()).copied(), findings);
    }
    for accepted in evidence.accepted.iter().filter(|accepted| !evidence.orders.contains_key(&accepted.order))
    {
        findings.accepted += 1;
        findings.lost.add(&accepted.order, "a client saw it accepted, and it is not in the database");
    }
}

fn one(
    evidence: &Evidence,
    told: &Told<'_>,
    order: &Order,
    client: Option<&Accepted>,
    findings: &mut Findings,
) {
    let Some(payment) = evidence.owner(&order.payment_id).payments.get(&order.payment_id) else {
        findings.lost.add(&order.id, format!("its payment {} is not at its owner", order.payment_id));
        return;
    };
    let Some(ended) = ended(&payment.status).filter(|_| !told.unknown.contains(payment.id.as_str())) else {
        findings.open.add(&order.id, format!("payment {} is {}", payment.id, payment.status));
        return;
    };
    match order.status.as_str() {
        "paid" => findings.paid += 1,
        "cancelled" => findings.declined += 1,
        _ => {
            findings
                .open
                .add(&order.id, format!("it is {}, its payment is {}", order.status, payment.status));
            return;
        }
    }
    let receipts = told.receipts(evidence, &payment.id);
    for difference in told.differences(order, payment, ended).into_iter().chain(receipts) {
        findings.lost.add(&order.id, difference);
    }
    if let Some(client) = client {
        if client.payment != order.payment_id {
            findings.lost.add(&order.id, format!("the client was told of payment {}", client.payment));
        }
        if client.ends != ended {
            findings.lost.add(
                &order.id,
                format!("the client made it end {:?}, and it is {}", client.ends, order.status),
            );
        }
    }
}

/// The end that a payment's status means; none while it is under way.
fn ended(status: &str) -> Option<Ended> {
    match status {
        "captured" | "refunded" => Some(Ended::Paid),
        "declined" | "voided" => Some(Ended::Cancelled),
        _ => None,
    }
}

impl<'a> Told<'a> {
    fn collect(evidence: &'a Evidence) -> Self {
        let mut told = Self {
            topic: HashMap::new(),
            moved: HashMap::new(),
            ends: HashMap::new(),
            clearing: HashMap::new(),
            adjusted: HashMap::new(),
            taken: HashMap::new(),
            unknown: BTreeSet::new(),
            older: &evidence.older,
        };
        for record in &evidence.records {
            told.hear(record);
        }
        for payment in evidence.orders.values().map(|order| order.payment_id.as_str()) {
            if evidence.owner(payment).unknown.iter().any(|id| id == payment) {
                told.unknown.insert(payment);
            }
        }
        for (name, home) in evidence.homes() {
            let own = |id: &str| evidence.owners.get(id).map_or("source", String::as_str) == name;
            for posting in home.postings.iter().filter(|posting| own(&posting.payment_id)) {
                match posting.account.as_str() {
                    "clearing" => {
                        *told.clearing.entry(&posting.payment_id).or_default() += posting.amount_minor;
                    }
                    "receivable" => {
                        *told.adjusted.entry(&posting.payment_id).or_default() -= posting.amount_minor;
                    }
                    _ => {}
                }
            }
        }
        for movement in &evidence.movements {
            *told.taken.entry(movement.tag("payment_id")).or_default() += movement.taken();
        }
        told
    }

    fn hear(&mut self, record: &'a Record) {
        if record.topic == proto::PAYMENTS.name() {
            let last = self.topic.entry(&record.key).or_insert(record);
            if record.version() > last.version() {
                *last = record;
            }
            let subject = match record.header("ce_type") {
                PaymentCaptured::KIND => "payment",
                PaymentRefunded::KIND => "refund",
                _ => return,
            };
            self.moved.entry((&record.key, subject)).or_default().insert(record.version());
            return;
        }
        let end = match OrderStream::decode(record.header("ce_type"), &record.payload) {
            Some(Ok(OrderStream::Paid(_))) => Ended::Paid,
            Some(Ok(OrderStream::Cancelled(_))) => Ended::Cancelled,
            Some(Ok(OrderStream::Placed(_)) | Err(_)) | None => return,
        };
        let ends = self.ends.entry(&record.key).or_default();
        if ends.last() != Some(&end) {
            ends.push(end);
        }
    }

    fn differences(&self, order: &Order, payment: &Payment, ended: Ended) -> Vec<String> {
        let mut differences = Vec::new();
        if payment.order_id != order.id {
            differences.push(format!("its payment is for order {}", payment.order_id));
        }
        if (payment.amount_minor, &payment.currency) != (order.total_minor, &order.currency) {
            differences.push(format!(
                "it costs {} {}, its payment is over {} {}",
                order.total_minor, order.currency, payment.amount_minor, payment.currency
            ));
        }
        if (order.status == "paid") != (ended == Ended::Paid) {
            differences.push(format!("it is {}, its payment is {}", order.status, payment.status));
        }
        match self.ends.get(order.id.as_str()).map(Vec::as_slice) {
            // Its end was told before there was a log.
            None if self.older.contains_key(&order.id) => {}
            Some([end]) if *end == ended => {}
            other => {
                differences.push(format!("its stream says {other:?}, its payment is {}", payment.status));
            }
        }
        differences.extend(self.money(payment));
        differences.extend(self.stream(payment));
        differences
    }

    /// One receipt for each event that moved money.
    fn receipts(&self, evidence: &Evidence, payment: &str) -> Vec<String> {
        let mut differences = Vec::new();
        for subject in ["payment", "refund"] {
            let events = self.moved.get(&(payment, subject)).map_or(0, BTreeSet::len);
            let receipts =
                evidence.receipts.get(&(payment.to_owned(), subject.to_owned())).copied().unwrap_or(0);
            if i64::try_from(events) != Ok(receipts) {
                differences.push(format!("{receipts} receipts of subject {subject} for {events} events"));
            }
        }
        differences
    }

    fn money(&self, payment: &Payment) -> Option<String> {
        let of = |sums: &HashMap<&str, i64>| sums.get(payment.id.as_str()).copied().unwrap_or(0);
        let (clearing, taken) = (of(&self.clearing), of(&self.taken));
        let kept = payment.captured_minor - payment.refunded_minor + of(&self.adjusted);
        (clearing != kept || taken != kept).then(|| {
            format!(
                "payment {} keeps {kept}, the ledger {clearing}, the provider's journal {taken}",
                payment.id
            )
        })
    }

    fn stream(&self, payment: &Payment) -> Option<String> {
        let Some(record) = self.topic.get(payment.id.as_str()) else {
            if self.older.get(&payment.id) == Some(&payment.version) {
                return None;
            }
            return Some(format!("payment {} has no record in the topic", payment.id));
        };
        let state = match PaymentStream::decode(record.header("ce_type"), &record.payload) {
            Some(Ok(event)) => state(event),
            Some(Err(error)) => {
                return Some(format!("the last record of payment {} is unreadable: {error}", payment.id));
            }
            None => return Some(format!("the last record of payment {} is of an unknown kind", payment.id)),
        };
        let status = state.as_ref().map_or("requested", |state| status(state.status()));
        let kept = state.map_or(0, |state| state.captured_minor - state.refunded_minor);
        let row = (payment.version, payment.status.as_str(), payment.captured_minor - payment.refunded_minor);
        (row != (record.version(), status, kept)).then(|| {
            let said = (record.version(), status, kept);
            format!(
                "payment {}: the owner has (version, status, kept) {row:?}, the topic ends with {said:?}",
                payment.id
            )
        })
    }
}

fn state(event: PaymentStream) -> Option<PaymentState> {
    match event {
        PaymentStream::Requested(_) => None,
        PaymentStream::Authorized(event) => event.state,
        PaymentStream::Captured(event) => event.state,
        PaymentStream::Declined(event) => event.state,
        PaymentStream::Voided(event) => event.state,
        PaymentStream::Refunded(event) => event.state,
        PaymentStream::Adjusted(event) => event.state,
        PaymentStream::Snapshot(event) => event.state,
        // The payment as it was before.
        PaymentStream::Offered(event) => event.whole.and_then(|whole| whole.state),
        PaymentStream::Released(event) => event.whole.and_then(|whole| whole.state),
    }
}

fn status(status: PaymentStatus) -> &'static str {
    match status {
        PaymentStatus::Unspecified => "unspecified",
        PaymentStatus::Requested => "requested",
        PaymentStatus::Authorized => "authorized",
        PaymentStatus::Captured => "captured",
        PaymentStatus::Declined => "declined",
        PaymentStatus::Voided => "voided",
        PaymentStatus::Refunded => "refunded",
    }
}
