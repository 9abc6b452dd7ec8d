//! Each kind of difference by name: found, kept once, closed by what closes it and by nothing else.

mod booked;
mod owners;
mod report;
mod runs;
mod waits;

use proto::Money;

use super::*;
use crate::reconcile::{Difference, ReconcileConfig, Reconciled, Reconciler, differences};

/// Every line is awaited for a day; one that is not there counts as late at once.
fn patient() -> ReconcileConfig {
    ReconcileConfig { late_after: Duration::ZERO, ..ReconcileConfig::default() }
}

/// Nothing is awaited.
fn strict() -> ReconcileConfig {
    ReconcileConfig { missing_after: Duration::ZERO, ..patient() }
}

fn euros(minor: i64) -> Money {
    Money::new(minor, "EUR".parse().unwrap())
}

impl World {
    async fn reconcile(&self, config: ReconcileConfig) -> Vec<Difference> {
        let ran = Reconciler::new(self.home.clone(), config).once().await.unwrap();
        assert!(matches!(ran, Reconciled::Whole { .. }), "{ran:?}");
        differences(&self.home, true).await.unwrap()
    }

    /// All of payments' tables of books and differences, to see that nothing changes.
    async fn rows(&self) -> Vec<String> {
        let sql = "
            select d::text from payments.difference d union all select e::text from payments.ledger_entry e
            union all select s::text from payments.settled s union all select p::text from payments.payment p order by 1";
        sqlx::query_scalar(sql).fetch_all(&self.admin).await.unwrap()
    }

    /// A second look finds nothing new, and changes nothing.
    async fn same_again(&self, config: ReconcileConfig) {
        let before = self.rows().await;
        self.reconcile(config).await;
        assert_eq!(self.rows().await, before, "a second run changes nothing");
    }

    async fn clearing_and_receivable(&self, id: PaymentId) -> (i64, i64) {
        let balances = self.balances(id).await;
        let of = |name| balances.iter().find(|(account, _)| account == name).map_or(0, |(_, minor)| *minor);
        (of("clearing"), of("receivable"))
    }
}

fn closed(difference: &Difference) -> Option<(&str, &str)> {
    difference.closed.as_ref().map(|(by, reason)| (by.as_str(), reason.as_str()))
}
