//! What is compared: rows, records and movements as they were found.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::Result;
use outbox::Event as _;
use proto::events::FeedHeartbeat;
use sqlx::PgPool;

use super::{Movement, journal, store};
use crate::kafka::{Kafka, Record};

/// Where the evidence is.
pub struct Places<'a> {
    /// The monolith's database, as its superuser.
    pub source: &'a PgPool,
    /// The service's database, as its superuser.
    pub target: &'a PgPool,
    /// Kafka, with the topics' prefix.
    pub kafka: &'a Kafka,
    /// The provider's journal on disk.
    pub journal: &'a Path,
}

/// An order that a client saw accepted, with the answer 201.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The order.
    pub order: String,
    /// Its payment.
    pub payment: String,
    /// How it must end, by the card that the client chose and what it did afterwards.
    pub ends: Ended,
}

/// How an order ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Its payment was captured, and some of it perhaps refunded.
    Paid,
    /// Without money: declined by the provider, or voided by the merchant.
    Cancelled,
}

/// Everything that the checker looks at.
#[derive(Debug, Default)]
pub struct Evidence {
    /// What the clients know.
    pub accepted: Vec<Accepted>,
    /// Orders by id.
    pub orders: BTreeMap<String, Order>,
    /// The home that owns a payment: `source` or `target`. Without a row it is the source.
    pub owners: HashMap<String, String>,
    /// Receipts that notifications queued, by payment and subject (`payment`, `refund`).
    pub receipts: HashMap<(String, String), i64>,
    /// The payments module in the monolith, with the monolith's whole outbox.
    pub source: Home,
    /// The payments service.
    pub target: Home,
    /// Both topics, in partition order.
    pub records: Vec<Record>,
    /// What the provider did.
    pub movements: Vec<Movement>,
    /// Streams that are older than the log, by key, with the version that the log found them at: their events up to it are in no log
    /// and in no topic.
    pub older: HashMap<String, i64>,
}

/// One order as the orders module stored it.
#[derive(Clone, Debug, Default, sqlx::FromRow)]
pub struct Order {
    /// Its id.
    pub id: String,
    /// Its payment.
    pub payment_id: String,
    /// `placed`, `paid` or `cancelled`.
    pub status: String,
    /// What is to be paid.
    pub total_minor: i64,
    /// In this currency.
    pub currency: String,
}

/// One home's view.
#[derive(Debug, Default)]
pub struct Home {
    /// Payments by id, its own and replicas.
    pub payments: BTreeMap<String, Payment>,
    /// The ledger.
    pub postings: Vec<Posting>,
    /// Payments with a command whose outcome is not known.
    pub unknown: Vec<String>,
    /// Callers' commands that it did.
    pub done: Vec<Done>,
    /// What it answers to callers' keys.
    pub answers: Vec<Kept>,
    /// Its outbox's log.
    pub events: Vec<Event>,
    /// What its inboxes could not apply, one line each.
    pub waiting: Vec<String>,
}

/// A payment as a home stored it.
#[derive(Clone, Debug, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Payment {
    /// Its id.
    pub id: String,
    /// Whose.
    pub tenant: String,
    /// For this order.
    pub order_id: String,
    /// `requested`, `authorized`, `captured`, `declined`, `voided` or `refunded`.
    pub status: String,
    /// The amount asked for.
    pub amount_minor: i64,
    /// In this currency.
    pub currency: String,
    /// Taken.
    pub captured_minor: i64,
    /// Given back.
    pub refunded_minor: i64,
    /// The stream's version that this is the result of.
    pub version: i64,
}

/// One line of a ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, sqlx::FromRow)]
pub struct Posting {
    /// The payment.
    pub payment_id: String,
    /// The transaction, which sums to zero.
    pub transaction_id: String,
    /// `receivable`, `clearing`, `payable` or `fees`.
    pub account: String,
    /// Debits are positive.
    pub amount_minor: i64,
    /// In this currency.
    pub currency: String,
}

/// A command that a caller gave under a key, and that was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, sqlx::FromRow)]
pub struct Done {
    /// The payment.
    pub payment_id: String,
    /// `capture`, `void` or `refund`.
    pub operation: String,
    /// The caller's key.
    pub key: String,
}

/// What a home kept of a key whose command has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Kept {
    /// The payment.
    pub payment_id: String,
    /// `capture`, `void` or `refund`.
    pub operation: String,
    /// The caller's key.
    pub key: String,
    /// Of the request that the key stands for.
    pub fingerprint: String,
    /// The command.
    pub command_id: String,
    /// The version that was answered and a digest of the state, or the provider's refusal.
    pub answer: String,
    /// Whether the other home must have it too: its event carried it there, and neither home forgets it within the hour.
    pub is_shared: bool,
}

/// A committed event.
#[derive(Clone, Debug, Default, sqlx::FromRow)]
pub struct Event {
    /// Its id.
    pub id: String,
    /// The logical topic.
    pub topic: String,
    /// The key.
    pub key: String,
    /// The key's version.
    pub version: i64,
}

impl Evidence {
    /// The home that owns a payment.
    pub(super) fn owner(&self, payment: &str) -> &Home {
        match self.owners.get(payment).map(String::as_str) {
            Some("target") => &self.target,
            _ => &self.source,
        }
    }

    /// Both homes, by name.
    pub(super) fn homes(&self) -> impl Iterator<Item = (&'static str, &Home)> {
        [("source", &self.source), ("target", &self.target)].into_iter()
    }
}

/// Reads everything. At rest this is one picture; under load it is a blurred one.
///
/// # Errors
/// When a server does not answer or the journal can't be read.
pub async fn gather(places: &Places<'_>, accepted: Vec<Accepted>) -> Result<Evidence> {
    let mut records = places.kafka.read(proto::ORDERS.name()).await?;
    records.extend(places.kafka.read(proto::PAYMENTS.name()).await?);
    // They go on while this looks, and tell of no payment.
    records.retain(|record| record.header("ce_type") != FeedHeartbeat::KIND);
    Ok(Evidence {
        accepted,
        orders: store::orders(places.source)
            .await?
            .into_iter()
            .map(|order| (order.id.clone(), order))
            .collect(),
        owners: store::owners(places.source).await?.into_iter().collect(),
        receipts: store::receipts(places.source)
            .await?
            .into_iter()
            .map(|(id, about, n)| ((id, about), n))
            .collect(),
        source: home(places.source).await?,
        target: home(places.target).await?,
        records,
        movements: journal::read(places.journal)?,
        older: HashMap::new(),
    })
}

/// Without payments only the log: whatever such a home should own is missing then.
async fn home(pool: &PgPool) -> Result<Home> {
    let log =
        Home { events: store::events(pool).await?, waiting: store::waiting(pool).await?, ..Home::default() };
    if !store::has_payments(pool).await? {
        return Ok(log);
    }
    Ok(Home {
        payments: store::payments(pool).await?.into_iter().map(|row| (row.id.clone(), row)).collect(),
        postings: store::postings(pool).await?,
        unknown: store::unknown(pool).await?,
        done: store::done(pool).await?,
        answers: store::answers(pool).await?,
        ..log
    })
}
