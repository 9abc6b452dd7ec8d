//! The provider's settlement list: every movement of its balance, one line each. Stripe calls them balance transactions.

use std::collections::BTreeMap;
use std::ops::Range;

use proto::{Money, PaymentId};
use serde::Deserialize;
use time::OffsetDateTime;
use uuid::Uuid;

use super::Failure;
use super::stripe::from_stripe;

/// The most lines of a page, which is Stripe's bound too.
pub(super) const PAGE_MAX: usize = 100;
/// The largest page that is read. A charge that is shown in full takes a few thousand bytes.
pub(super) const PAGE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// A movement of the provider's balance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettlementLine {
    /// Its id (`txn_..`), which never changes.
    pub id: String,
    /// What moved the money.
    pub kind: LineKind,
    /// What came in (positive) or went out (negative), in the balance's currency.
    pub amount: Money,
    /// When it moved, by the provider's clock; whole seconds.
    pub created: OffsetDateTime,
    /// The charge or refund (`ch_..`, `re_..`); empty when the line has none.
    pub object: String,
    /// The payment intent of that charge or refund.
    pub payment_intent: Option<String>,
    /// The payment that our tag on the charge or refund names. Money that was moved in the provider's dashboard has no tag.
    pub payment: Option<PaymentId>,
    /// The command that the tag names.
    pub command: Option<Uuid>,
}

/// What a line is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineKind {
    /// Taken money.
    Charge,
    /// Returned money.
    Refund,
    /// Returned money that came back: its refund failed.
    RefundFailure,
    /// None of a payment's: the provider's fees, payouts, disputes. The books don't have those.
    Other,
}

/// A line that this version can't read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadLine {
    /// Its id.
    pub id: String,
    /// When it moved; now, if not even that can be read.
    pub created: OffsetDateTime,
    /// What can't be read.
    pub why: String,
}

/// A part of the list, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SettlementPage {
    /// At most 100, with those of `unread`.
    pub lines: Vec<SettlementLine>,
    /// Lines of a payment that can't be read: they don't keep the others.
    pub unread: Vec<UnreadLine>,
    /// The line after which the next page begins; `None` at the end.
    pub next: Option<String>,
}

/// The parameters of `GET /v1/balance_transactions`.
pub(super) fn query(within: &Range<OffsetDateTime>, after: Option<&str>) -> Vec<(&'static str, String)> {
    let mut query = vec![
        ("created[gte]", within.start.unix_timestamp().to_string()),
        ("created[lt]", within.end.unix_timestamp().to_string()),
        ("limit", PAGE_MAX.to_string()),
        ("expand[]", "data.source".to_owned()),
    ];
    query.extend(after.map(|after| ("starting_after", after.to_owned())));
    query
}

/// Stripe's list.
#[derive(Deserialize)]
pub(super) struct List {
    data: Vec<BalanceTransaction>,
    has_more: bool,
}

#[derive(Deserialize)]
struct BalanceTransaction {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    amount: i64,
    currency: String,
    created: i64,
    source: Option<Source>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Source {
    Shown { id: String, payment_intent: Option<String>, metadata: Option<BTreeMap<String, String>> },
    Named(String),
    Odd(serde::de::IgnoredAny),
}

impl TryFrom<List> for SettlementPage {
    type Error = Failure;

    fn try_from(list: List) -> Result<Self, Failure> {
        let next = list.data.last().filter(|_| list.has_more).map(|line| line.id.clone());
        if list.has_more && next.is_none() {
            return Err(Failure::Unknown("an empty page of settlements that is not the last".to_owned()));
        }
        let (mut lines, mut unread) = (Vec::new(), Vec::new());
        for line in list.data {
            // What is no payment's may be in a currency or of a shape that nobody here knows.
            if LineKind::of(&line.kind) == LineKind::Other {
                continue;
            }
            let (id, created) = (line.id.clone(), OffsetDateTime::from_unix_timestamp(line.created));
            match SettlementLine::try_from(line) {
                Ok(line) => lines.push(line),
                Err(why) => {
                    let created = created.unwrap_or_else(|_| OffsetDateTime::now_utc());
                    unread.push(UnreadLine { id, created, why: why.to_string() });
                }
            }
        }
        Ok(Self { lines, unread, next })
    }
}

impl TryFrom<BalanceTransaction> for SettlementLine {
    type Error = Failure;

    fn try_from(line: BalanceTransaction) -> Result<Self, Failure> {
        let unreadable = |what: &str| Failure::Unknown(format!("settlement line {}: {what}", line.id));
        let created =
            OffsetDateTime::from_unix_timestamp(line.created).map_err(|_| unreadable("its time"))?;
        let (object, payment_intent, metadata) = match line.source {
            Some(Source::Shown { id, payment_intent, metadata }) => {
                (id, payment_intent, metadata.unwrap_or_default())
            }
            Some(Source::Named(id)) => (id, None, BTreeMap::new()),
            Some(Source::Odd(_)) => return Err(unreadable("its source")),
            None => Default::default(),
        };
        Ok(Self {
            kind: LineKind::of(&line.kind),
            amount: from_stripe(line.amount, &line.currency)?,
            created,
            object,
            payment_intent,
            payment: metadata.get("payment_id").and_then(|id| id.parse().ok()),
            command: metadata.get("command_id").and_then(|id| id.parse().ok()),
            id: line.id,
        })
    }
}

impl LineKind {
    /// Of Stripe's word. `payment` is a charge that is not a card's.
    fn of(word: &str) -> Self {
        match word {
            "charge" | "payment" => LineKind::Charge,
            "refund" | "payment_refund" => LineKind::Refund,
            "refund_failure" => LineKind::RefundFailure,
            _ => LineKind::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(data: &str, has_more: bool) -> Result<SettlementPage, Failure> {
        let list = format!(r#"{{"object":"list","data":[{data}],"has_more":{has_more}}}"#);
        serde_json::from_str::<List>(&list).unwrap().try_into()
    }

    #[test]
    fn a_line_tells_whose_money_moved() {
        let (payment, command) = (PaymentId::new(), Uuid::now_v7());
        let data = format!(
            r#"{{"id":"txn_2","object":"balance_transaction","type":"refund","amount":-300,"currency":"eur","created":1700000000,
                "source":{{"id":"re_1","object":"refund","payment_intent":"pi_1","amount":300,
                "metadata":{{"payment_id":"{payment}","command_id":"{command}"}}}}}},
                {{"id":"txn_1","type":"payout","amount":-700,"currency":"eur","created":1699999999,"source":"po_1"}}"#
        );
        let page = page(&data, true).unwrap();
        let refund = &page.lines[0];
        assert_eq!(
            (refund.kind, refund.amount.minor, refund.object.as_str()),
            (LineKind::Refund, -300, "re_1")
        );
        assert_eq!(refund.created.unix_timestamp(), 1_700_000_000);
        assert_eq!((refund.payment, refund.command), (Some(payment), Some(command)));
        assert_eq!(refund.payment_intent.as_deref(), Some("pi_1"));
        assert_eq!(page.lines.len(), 1, "a payout is not a payment's");
        assert_eq!(page.next.as_deref(), Some("txn_1"), "the next page begins behind the last line");
    }

    #[test]
    fn a_list_that_can_not_go_on_or_be_read_is_no_list() {
        assert_eq!(page("", false).unwrap(), SettlementPage::default());
        assert!(page("", true).is_err(), "more, but behind what?");
    }

    #[test]
    fn a_line_that_can_not_be_read_does_not_keep_the_others() {
        let charge =
            r#"{"id":"txn_4","type":"charge","amount":1,"currency":"eur","created":1,"source":null}"#;
        let currency =
            r#"{"id":"txn_3","type":"charge","amount":1,"currency":"eu","created":1,"source":null}"#;
        let source =
            r#"{"id":"txn_2","type":"refund","amount":-1,"currency":"eur","created":1,"source":{"id":7}}"#;
        let payout =
            r#"{"id":"txn_1","type":"payout","amount":1,"currency":"usdc","created":1,"source":{"id":7}}"#;
        let page = page(&[charge, currency, source, payout].join(","), true).unwrap();
        assert_eq!((page.lines.len(), page.lines[0].id.as_str()), (1, "txn_4"));
        let unread: Vec<&str> = page.unread.iter().map(|line| line.id.as_str()).collect();
        assert_eq!((unread, page.next.as_deref()), (vec!["txn_3", "txn_2"], Some("txn_1")));
    }

    #[test]
    fn a_page_is_asked_for_by_seconds() {
        let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).unwrap();
        let asked = query(&(at(10)..at(20)), Some("txn_9"));
        assert_eq!(asked[..2], [("created[gte]", "10".to_owned()), ("created[lt]", "20".to_owned())]);
        assert_eq!(asked.last(), Some(&("starting_after", "txn_9".to_owned())));
    }
}
