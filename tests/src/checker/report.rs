//! What the checker found.

use std::collections::BTreeMap;
use std::fmt;

/// Keys named per finding in a printed report; all of them are counted.
const KEYS_MAX: usize = 10;

/// The keys that break one promise, each with the reasons.
#[derive(Clone, Debug, Default)]
pub struct Broken(BTreeMap<String, Vec<String>>);

impl Broken {
    pub(super) fn add(&mut self, key: impl Into<String>, why: impl Into<String>) {
        self.0.entry(key.into()).or_default().push(why.into());
    }

    /// How many keys.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, reasons) in self.0.iter().take(KEYS_MAX) {
            writeln!(f, "    {key}: {}", reasons.join("; "))?;
        }
        match self.count().saturating_sub(KEYS_MAX) {
            0 => Ok(()),
            more => writeln!(f, "    and {more} more"),
        }
    }
}

/// Every count of the checker, with its keys.
#[derive(Debug, Default)]
pub struct Findings {
    /// Orders that a client saw accepted, or that are in the database.
    pub accepted: usize,
    /// Of these, paid.
    pub paid: usize,
    /// Of these, ended without money: declined, or voided.
    pub declined: usize,
    /// Of these, not at their end.
    pub open: Broken,
    /// Accepted orders that are gone, or whose end differs between order, payment, ledger, topic and journal.
    pub lost: Broken,
    /// Payments for which the provider took (or returned) money more than once, or a caller's command was done more than once.
    pub charged_twice: Broken,
    /// Committed events that are not in Kafka, and records in Kafka that were never committed.
    pub events_lost: Broken,
    /// Streams whose first deliveries are not 1, 2, 3 .., or where two events claim one version.
    pub events_out_of_order: Broken,
    /// Ledger transactions that don't sum to zero, and payments where the journal and the clearing account differ.
    pub books: Broken,
    /// Payments that differ between the homes at rest, by their rows, their ledgers or their answers.
    pub parity: Broken,
    /// What inboxes could not apply.
    pub waiting: Vec<String>,
}

impl Findings {
    /// Whether every promise holds. Without a single accepted order none is proven.
    pub fn holds(&self) -> bool {
        self.accepted > 0 && self.waiting.is_empty() && self.all().iter().all(|(_, broken)| broken.is_empty())
    }

    /// Whether the books balance.
    pub fn books_balanced(&self) -> bool {
        self.accepted > 0 && self.books.is_empty()
    }

    fn all(&self) -> [(&'static str, &Broken); 7] {
        [
            ("open", &self.open),
            ("lost", &self.lost),
            ("charged twice", &self.charged_twice),
            ("events lost", &self.events_lost),
            ("events out of order", &self.events_out_of_order),
            ("books that don't balance", &self.books),
            ("differing between the homes", &self.parity),
        ]
    }
}

/// A table, and under it the keys of whatever does not hold.
impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {:<28} {:>8}", "accepted", self.accepted)?;
        writeln!(f, "  {:<28} {:>8}", "paid", self.paid)?;
        writeln!(f, "  {:<28} {:>8}", "declined", self.declined)?;
        for (name, broken) in self.all() {
            writeln!(f, "  {name:<28} {:>8}", broken.count())?;
        }
        for (name, broken) in self.all().into_iter().filter(|(_, broken)| !broken.is_empty()) {
            write!(f, "\n  {name}:\n{broken}")?;
        }
        for line in self.waiting.iter().take(KEYS_MAX) {
            write!(f, "\n  waiting: {line}")?;
        }
        if self.accepted == 0 {
            write!(f, "\n  no order was accepted: nothing is proven\n")?;
        }
        Ok(())
    }
}
