//! Two homes with one row each, which may fail or hang.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use strangler::{Answer, Comparable, Difference, Error, Fallback, Home, Homes, Reading};

/// Far longer than a read may take here.
pub(super) const HANGS: Duration = Duration::from_secs(600);

/// Cents at a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) cents: i64,
    pub(super) word: &'static str,
    pub(super) version: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    Behind,
    Unknown,
    Parked,
    Broken,
    Lost,
}

/// A home with one row, or an error in its place.
pub(super) struct Desk {
    pub(super) row: Mutex<Result<Row, Said>>,
    pub(super) hangs: Mutex<bool>,
    pub(super) calls: AtomicUsize,
    /// The version that the last caller had to see; -1 for a read of an owner.
    pub(super) at_least: AtomicI64,
}

pub(super) struct Shop;

impl Comparable for Row {
    fn version(&self) -> i64 {
        self.version
    }

    fn compare(&self, other: &Self) -> Difference {
        if self.cents != other.cents {
            Difference::Money
        } else if self.word != other.word {
            Difference::Structure
        } else {
            Difference::Equal
        }
    }

    fn mutants(&self) -> Vec<Self> {
        vec![Row { cents: self.cents + 1, ..self.clone() }, Row { word: "mutant", ..self.clone() }]
    }

    fn shown(&self) -> String {
        format!("{} cents, {}", self.cents, self.word)
    }
}

impl Homes for Shop {
    type Desk = Desk;
    type Error = Said;

    fn answer(_: &Said, _: Home) -> Answer {
        Answer::Final
    }

    fn unroutable(_: Error) -> Said {
        Said::Lost
    }

    fn fallback(error: &Said) -> Fallback {
        match error {
            Said::Behind => Fallback::Lag,
            Said::Unknown => Fallback::NotFound,
            Said::Parked => Fallback::Parked,
            Said::Broken | Said::Lost => Fallback::Error,
        }
    }
}

impl Desk {
    pub(super) fn with(row: Row) -> Arc<Self> {
        Arc::new(Self {
            row: Mutex::new(Ok(row)),
            hangs: Mutex::new(false),
            calls: AtomicUsize::new(0),
            at_least: AtomicI64::new(-1),
        })
    }

    pub(super) fn set(&self, row: Result<Row, Said>) {
        *self.row.lock().unwrap() = row;
    }

    pub(super) async fn read(&self, reading: Reading) -> Result<Row, Said> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let at_least = match reading {
            Reading::Owner => -1,
            Reading::Copy { at_least } => at_least,
        };
        self.at_least.store(at_least, Ordering::SeqCst);
        let hangs = *self.hangs.lock().unwrap();
        if hangs {
            tokio::time::sleep(HANGS).await;
        }
        let row = self.row.lock().unwrap().clone()?;
        if row.version < at_least { Err(Said::Behind) } else { Ok(row) }
    }
}
