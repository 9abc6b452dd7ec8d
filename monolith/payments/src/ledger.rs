//! Double entry: what a command moves between accounts.

mod balance;
mod fee;

use proto::{Money, MoneyError};
use uuid::Uuid;

use crate::payment::words;

pub use self::balance::{Balance, balances};
pub use self::fee::{FEE_BASIS_POINTS, fee};

/// An account of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Account {
    /// What a difference with the provider leaves open: money that somebody owes, or is owed.
    Receivable,
    /// Money at the provider. Equals its journal once all differences are closed.
    Clearing,
    /// What is owed to the merchant.
    Payable,
    /// The platform's income. Carries what rounding a fee adds or leaves out.
    Fees,
}

words!(Account { Receivable = "receivable", Clearing = "clearing", Payable = "payable", Fees = "fees" });

/// One line: positive minor units are debits, negative ones credits. Never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Posting {
    /// Where.
    pub account: Account,
    /// How much.
    pub amount: Money,
}

/// Postings that sum to zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// The id of the command or adjustment that caused it: a replay changes nothing.
    pub id: Uuid,
    /// At most one for each account.
    pub postings: Vec<Posting>,
}

impl Transaction {
    /// Captured money: debit clearing, credit payable and fees.
    ///
    /// # Errors
    /// [`MoneyError::Overflow`].
    pub fn capture(id: Uuid, captured: Money) -> Result<Self, MoneyError> {
        let fee = fee(captured)?;
        let rest = captured.plus(negative(fee)?)?;
        Ok(Self::of(
            id,
            [
                (Account::Clearing, captured),
                (Account::Payable, negative(rest)?),
                (Account::Fees, negative(fee)?),
            ],
        ))
    }

    /// Returned money: credit clearing, debit payable. The fee stays.
    ///
    /// # Errors
    /// [`MoneyError::Overflow`].
    pub fn refund(id: Uuid, refunded: Money) -> Result<Self, MoneyError> {
        Ok(Self::of(id, [(Account::Clearing, negative(refunded)?), (Account::Payable, refunded)]))
    }

    /// What the provider has more than the books (less, when negative): debit clearing, credit receivable.
    ///
    /// # Errors
    /// [`MoneyError::Overflow`].
    pub fn adjustment(id: Uuid, delta: Money) -> Result<Self, MoneyError> {
        Ok(Self::of(id, [(Account::Clearing, delta), (Account::Receivable, negative(delta)?)]))
    }

    fn of(id: Uuid, lines: impl IntoIterator<Item = (Account, Money)>) -> Self {
        let moved = lines.into_iter().filter(|(_, amount)| amount.minor != 0);
        Self { id, postings: moved.map(|(account, amount)| Posting { account, amount }).collect() }
    }
}

fn negative(amount: Money) -> Result<Money, MoneyError> {
    amount.times(-1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_transaction_sums_to_zero(minor in 1..=i64::MAX) {
            let (id, amount) = (Uuid::now_v7(), Money::new(minor, "EUR".parse().unwrap()));
            for transaction in [Transaction::capture(id, amount).unwrap(), Transaction::refund(id, amount).unwrap()] {
                let sum: i128 = transaction.postings.iter().map(|posting| i128::from(posting.amount.minor)).sum();
                prop_assert_eq!(sum, 0);
                prop_assert!(transaction.postings.iter().all(|posting| posting.amount.minor != 0));
            }
        }
    }
}
