//! Money: integer minor units and a currency.

mod currency;
mod decimal;

pub use self::currency::Currency;
use crate::{events, payments};

/// An amount in minor units (cents for EUR). Arithmetic is checked; there are no floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Money {
    /// Minor units; negative for credits.
    pub minor: i64,
    /// Its currency.
    pub currency: Currency,
}

/// Why an amount is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// No currency of ISO 4217.
    #[error("{0:?} is not a currency: three upper-case letters of ISO 4217 are needed, such as EUR")]
    Currency(String),
    /// No decimal number.
    #[error("an amount is digits, with a decimal point between them at most")]
    Malformed,
    /// More decimals than the currency has.
    #[error("{currency} has {exponent} decimals, not {given}")]
    TooPrecise {
        /// The currency.
        currency: Currency,
        /// The decimals that it has.
        exponent: u32,
        /// The decimals that were given.
        given: usize,
    },
    /// Two currencies in one sum.
    #[error("{0} and {1} can't be reckoned together")]
    Mixed(Currency, Currency),
    /// More than 64 bits of minor units.
    #[error("the amount is too large")]
    Overflow,
    /// No amount was given.
    #[error("the amount is missing")]
    Missing,
}

impl Money {
    /// An amount.
    pub const fn new(minor: i64, currency: Currency) -> Self {
        Self { minor, currency }
    }

    /// The sum of two amounts of one currency.
    ///
    /// # Errors
    /// [`MoneyError::Mixed`], [`MoneyError::Overflow`].
    pub fn plus(self, other: Money) -> Result<Money, MoneyError> {
        if self.currency != other.currency {
            return Err(MoneyError::Mixed(self.currency, other.currency));
        }
        let minor = self.minor.checked_add(other.minor).ok_or(MoneyError::Overflow)?;
        Ok(Money { minor, currency: self.currency })
    }

    /// What is left of an amount after another of its currency; may be negative.
    ///
    /// # Errors
    /// [`MoneyError::Mixed`], [`MoneyError::Overflow`].
    pub fn minus(self, other: Money) -> Result<Money, MoneyError> {
        if self.currency != other.currency {
            return Err(MoneyError::Mixed(self.currency, other.currency));
        }
        let minor = self.minor.checked_sub(other.minor).ok_or(MoneyError::Overflow)?;
        Ok(Money { minor, currency: self.currency })
    }

    /// The same amount the other way: a debit as a credit.
    ///
    /// # Errors
    /// [`MoneyError::Overflow`].
    pub fn negated(self) -> Result<Money, MoneyError> {
        let minor = self.minor.checked_neg().ok_or(MoneyError::Overflow)?;
        Ok(Money { minor, currency: self.currency })
    }

    /// The amount, `quantity` times.
    ///
    /// # Errors
    /// [`MoneyError::Overflow`].
    pub fn times(self, quantity: i64) -> Result<Money, MoneyError> {
        let minor = self.minor.checked_mul(quantity).ok_or(MoneyError::Overflow)?;
        Ok(Money { minor, currency: self.currency })
    }
}

impl From<Money> for events::Money {
    fn from(money: Money) -> Self {
        Self { minor: money.minor, currency: money.currency.to_string() }
    }
}

impl TryFrom<events::Money> for Money {
    type Error = MoneyError;

    fn try_from(wire: events::Money) -> Result<Self, MoneyError> {
        Ok(Self { minor: wire.minor, currency: wire.currency.parse()? })
    }
}

impl From<Money> for payments::Money {
    fn from(money: Money) -> Self {
        Self { minor: money.minor, currency: money.currency.to_string() }
    }
}

impl TryFrom<payments::Money> for Money {
    type Error = MoneyError;

    fn try_from(wire: payments::Money) -> Result<Self, MoneyError> {
        Ok(Self { minor: wire.minor, currency: wire.currency.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sums_are_checked() {
        let (eur, usd) = ("EUR".parse().unwrap(), "USD".parse().unwrap());
        let cent = Money::new(1, eur);
        assert_eq!(cent.plus(Money::new(2, eur)), Ok(Money::new(3, eur)));
        assert_eq!(cent.plus(Money::new(2, usd)), Err(MoneyError::Mixed(eur, usd)));
        assert_eq!(cent.minus(Money::new(3, eur)), Ok(Money::new(-2, eur)));
        assert_eq!(cent.minus(Money::new(2, usd)), Err(MoneyError::Mixed(eur, usd)));
        assert_eq!(cent.negated(), Ok(Money::new(-1, eur)));
        for refused in [
            cent.plus(Money::new(i64::MAX, eur)),
            Money::new(-2, eur).minus(Money::new(i64::MAX, eur)),
            Money::new(i64::MAX, eur).times(2),
            Money::new(i64::MIN, eur).times(-1),
            Money::new(i64::MIN, eur).negated(),
        ] {
            assert_eq!(refused, Err(MoneyError::Overflow));
        }
    }

    proptest! {
        /// Against 128 bits, where nothing overflows.
        #[test]
        fn checked_sums_are_the_true_ones(a in any::<i64>(), b in any::<i64>(), small in -1_000_000_i64..1_000_000) {
            let eur = "EUR".parse().unwrap();
            let (one, other, true_one) = (Money::new(a, eur), Money::new(b, eur), i128::from(a));
            for (got, expected) in [
                (one.plus(other), true_one + i128::from(b)),
                (one.minus(other), true_one - i128::from(b)),
                (one.times(small), true_one * i128::from(small)),
                (one.negated(), -true_one),
            ] {
                let expected = i64::try_from(expected).map(|minor| Money::new(minor, eur));
                prop_assert_eq!(got, expected.map_err(|_| MoneyError::Overflow));
            }
        }
    }
}
