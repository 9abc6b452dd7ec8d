//! Balances: a fold over what was booked.

use std::collections::BTreeMap;

use proto::Currency;

use crate::{Account, Posting};

/// What was booked on an account in one currency, in minor units. Sums of 64-bit amounts can't leave 128 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Balance {
    /// Which account.
    pub account: Account,
    /// In which currency.
    pub currency: Currency,
    /// The sum of all debits.
    pub debits_minor: i128,
    /// The sum of all credits, as a positive number.
    pub credits_minor: i128,
}

impl Balance {
    /// Debits less credits.
    pub const fn minor(&self) -> i128 {
        self.debits_minor - self.credits_minor
    }
}

/// The trial balance of postings: each account that has any, by currency and account. In each currency the balances sum to
/// zero.
pub fn balances<'a>(postings: impl IntoIterator<Item = &'a Posting>) -> Vec<Balance> {
    let mut sums: BTreeMap<(Currency, Account), (i128, i128)> = BTreeMap::new();
    for Posting { account, amount } in postings {
        let (debits, credits) = sums.entry((amount.currency, *account)).or_default();
        match i128::from(amount.minor) {
            minor if minor > 0 => *debits += minor,
            minor => *credits -= minor,
        }
    }
    let balance = |((currency, account), (debits_minor, credits_minor))| Balance {
        account,
        currency,
        debits_minor,
        credits_minor,
    };
    sums.into_iter().map(balance).collect()
}
