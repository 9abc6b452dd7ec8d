//! Differences as an operator reads them.

use std::fmt::Write as _;

use proto::{Currency, PaymentId};
use sqlx::PgPool;
use time::OffsetDateTime;

use super::DifferenceKind;
use crate::{Error, Home, Tenant, store};

/// Open differences that are shown, the newest.
pub(crate) const OPEN_MAX: i64 = 1_000;
/// Closed differences that are shown beside them, the last ones.
const CLOSED_MAX: i64 = 100;
/// Between two columns.
const GAP: &str = "  ";

/// A difference between the books and the provider's list.
#[derive(Debug, Clone)]
pub struct Difference {
    /// Its number, by which it is accepted.
    pub id: i64,
    /// What kind.
    pub kind: DifferenceKind,
    /// The payment and whose it is; `None` when no payment of ours is named.
    pub payment: Option<(PaymentId, Tenant)>,
    /// The provider's charge, refund or payment intent.
    pub object: String,
    /// What the books have, in minor units; `None`: nothing.
    pub here_minor: Option<i64>,
    /// What the provider's list has, in minor units; `None`: nothing.
    pub there_minor: Option<i64>,
    /// Of both amounts.
    pub currency: Option<Currency>,
    /// More, in words.
    pub detail: String,
    /// When it was found.
    pub opened_at: OffsetDateTime,
    /// By whom it was closed, and why; `None` while it is open.
    pub closed: Option<(String, String)>,
}

/// The open differences of a home, the newest first and at most 1,000; with `closed` the last 100 closed ones behind them.
///
/// # Errors
/// [`Error::Database`].
pub async fn differences(home: &Home, closed: bool) -> Result<Vec<Difference>, Error> {
    store::differences(&home.pool, OPEN_MAX, if closed { CLOSED_MAX } else { 0 }).await
}

/// How many differences are open in a home's database.
///
/// # Errors
/// [`Error::Database`].
pub async fn open_differences(pool: &PgPool) -> Result<i64, Error> {
    Ok(store::count_open(pool).await?.into_iter().map(|(_, count)| count).sum())
}

/// How many differences of a home are open beside those that are shown.
pub(super) async fn unshown(home: &Home, shown: usize) -> Result<usize, Error> {
    let open = open_differences(&home.pool).await?;
    Ok(usize::try_from(open).unwrap_or_default().saturating_sub(shown))
}

/// Differences as a table, one line each.
pub fn table(differences: &[Difference]) -> String {
    if differences.is_empty() {
        return "no difference is open\n".to_owned();
    }
    let mut rows =
        vec![["id", "kind", "payment", "object", "here", "there", "since", "says"].map(str::to_owned)];
    rows.extend(differences.iter().map(row));
    let widths: [usize; 8] = std::array::from_fn(|column| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
    });
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join(GAP);
        // Writing to a string can't fail.
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn row(difference: &Difference) -> [String; 8] {
    let amount = |minor: Option<i64>| match (minor, difference.currency) {
        (Some(minor), Some(currency)) => format!("{minor} {currency}"),
        _ => "-".to_owned(),
    };
    let says = match &difference.closed {
        Some((by, reason)) => format!("closed by {by}: {reason}"),
        None => difference.detail.clone(),
    };
    let opened = difference.opened_at;
    [
        difference.id.to_string(),
        difference.kind.word().to_owned(),
        difference.payment.as_ref().map_or_else(|| "-".to_owned(), |(payment, _)| payment.to_string()),
        if difference.object.is_empty() { "-".to_owned() } else { difference.object.clone() },
        amount(difference.here_minor),
        amount(difference.there_minor),
        format!("{} {:02}:{:02}Z", opened.date(), opened.hour(), opened.minute()),
        says,
    ]
}
