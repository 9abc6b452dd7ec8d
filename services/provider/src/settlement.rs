//! The settlement list: one balance transaction for each movement of money, read from the journal.

use serde_json::{Value, json};

use crate::book::{Book, Entry};
use crate::failure::Failure;
use crate::form::Form;
use crate::line::{Kind, Movement};

/// Digits of the journal's `seq` in a transaction's id, so that a page starts where the last one ended.
const SEQ_DIGITS: usize = 12;

/// Characters of the charge's or refund's id in it, so that two journals have no id in common.
const SOURCE_DIGITS: usize = 12;

/// Which lines are asked for.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// The first second.
    from_s: Option<i64>,
    /// The second after the last.
    until_s: Option<i64>,
    kind: Option<String>,
    source: Option<String>,
    /// Whether the charge or refund is shown, not only its id.
    expand: bool,
}

/// One line of the list.
struct Transaction<'a> {
    id: String,
    /// `charge`, `refund` or `refund_failure`.
    kind: &'static str,
    /// Minor units; what went back to the payer is negative.
    amount: i64,
    entry: &'a Entry,
}

impl Wanted {
    pub(crate) fn read(form: &mut Form) -> Result<Self, Failure> {
        let mut wanted = Self { expand: form.expand("data.source")?, ..Self::default() };
        for (name, from, until) in [
            ("created", Some(0), Some(1)),
            ("created[gte]", Some(0), None),
            ("created[gt]", Some(1), None),
            ("created[lt]", None, Some(0)),
            ("created[lte]", None, Some(1)),
        ] {
            let Some(second) = form.second(name)? else { continue };
            wanted.from_s = wanted.from_s.max(from.map(|offset| second + offset));
            let until = until.map(|offset| second + offset);
            wanted.until_s = [wanted.until_s, until].into_iter().flatten().min();
        }
        wanted.kind = form.text("type");
        wanted.source = form.text("source");
        Ok(wanted)
    }

    fn takes(&self, transaction: &Transaction<'_>) -> bool {
        self.kind.as_deref().is_none_or(|kind| kind == transaction.kind)
            && self.source.as_deref().is_none_or(|source| source == transaction.entry.movement.id)
    }
}

/// The lines, newest first.
pub(crate) fn list(
    book: &Book,
    wanted: &Wanted,
    after: Option<&str>,
    now_ms: i64,
) -> Result<impl Iterator<Item = Value>, Failure> {
    let all = book.movements();
    let mut end = all.len();
    if let Some(id) = after {
        end = place(all, id).ok_or_else(|| unknown(id))?;
    }
    if let Some(until) = wanted.until_s {
        end = end.min(all.partition_point(|entry| second(entry) < until));
    }
    let from = wanted.from_s.map_or(0, |from| all.partition_point(|entry| second(entry) < from)).min(end);
    let shown = all[from..end].iter().rev().filter_map(move |entry| show(book, entry, now_ms));
    let shown = shown.filter(|transaction| wanted.takes(transaction));
    Ok(shown.map(|transaction| transaction.object(book, wanted.expand)))
}

/// One line.
pub(crate) fn one(book: &Book, id: &str, expand: bool, now_ms: i64) -> Result<Value, Failure> {
    let entry = place(book.movements(), id).and_then(|at| book.movements().get(at));
    let transaction = entry.and_then(|entry| show(book, entry, now_ms));
    let missing = || Failure::missing("balance_transaction", id);
    transaction.map(|transaction| transaction.object(book, expand)).ok_or_else(missing)
}

/// The line that a movement shows as, if it moved money and the list is not told to keep it back.
fn show<'a>(book: &Book, entry: &'a Entry, now_ms: i64) -> Option<Transaction<'a>> {
    let Movement { kind, payment_intent, amount, .. } = &entry.movement;
    let (id, lies) = (id(entry), book.lies());
    let (kind, amount) = match kind {
        Kind::Charge | Kind::Capture => ("charge", amount.saturating_add(lies.altered(payment_intent))),
        Kind::Refund => ("refund", -amount),
        Kind::RefundFailure => ("refund_failure", *amount),
        Kind::Authorization | Kind::Cancel | Kind::Decline => return None,
    };
    let late = entry.at_ms.saturating_add(lies.delay_ms()) > now_ms;
    let amount = amount.saturating_add(lies.altered(&id));
    (!late && !lies.hides(&id, payment_intent)).then_some(Transaction { id, kind, amount, entry })
}

impl Transaction<'_> {
    fn object(&self, book: &Book, expand: bool) -> Value {
        let (movement, created) = (&self.entry.movement, second(self.entry));
        let source = if expand { source(book, movement, created) } else { movement.id.as_str().into() };
        json!({
            "id": self.id,
            "object": "balance_transaction",
            "amount": self.amount,
            "available_on": created,
            "created": created,
            "currency": movement.currency,
            "fee": 0,
            "fee_details": [],
            "net": self.amount,
            "reporting_category": self.kind,
            "source": source,
            "status": "available",
            "type": self.kind,
        })
    }
}

/// The charge or refund that moved the money.
fn source(book: &Book, movement: &Movement, created: i64) -> Value {
    if let Ok(refund) = book.refund(&movement.id) {
        return refund.object();
    }
    let intent = book.intent(&movement.payment_intent).ok();
    json!({
        "id": movement.id,
        "object": "charge",
        "amount": intent.map_or(movement.amount, |intent| intent.amount),
        "amount_captured": movement.amount,
        "amount_refunded": intent.map_or(0, |intent| intent.amount_refunded),
        "captured": true,
        "created": created,
        "currency": movement.currency,
        "livemode": false,
        "metadata": movement.metadata,
        "paid": true,
        "payment_intent": movement.payment_intent,
        "status": "succeeded",
    })
}

fn id(entry: &Entry) -> String {
    let source = &entry.movement.id;
    let tail = source.get(source.len().saturating_sub(SOURCE_DIGITS)..).unwrap_or_default();
    format!("txn_{:0SEQ_DIGITS$}{tail}", entry.seq)
}

/// Where the line with this id stands.
fn place(all: &[Entry], text: &str) -> Option<usize> {
    let seq: u64 = text.strip_prefix("txn_")?.get(..SEQ_DIGITS)?.parse().ok()?;
    let at = all.binary_search_by_key(&seq, |entry| entry.seq).ok()?;
    all.get(at).is_some_and(|entry| id(entry) == text).then_some(at)
}

fn second(entry: &Entry) -> i64 {
    entry.at_ms.div_euclid(1_000)
}

fn unknown(id: &str) -> Failure {
    Failure::param("resource_missing", "starting_after", format!("No such balance_transaction: '{id}'"))
}
