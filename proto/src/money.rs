//! Money: integer minor units and a currency.

use std::{fmt, str::FromStr};

use crate::{events, payments};

/// An ISO 4217 currency: three upper-case letters. Which ones a shop takes is the shop's business.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Currency([u8; 3]);

impl Currency {
    /// The code, such as `EUR`.
    pub fn code(&self) -> &str {
        // Only ASCII letters get in.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Digits after the decimal point, by ISO 4217 (list one, 2024): 2 but for these.
    pub fn exponent(self) -> u32 {
        match &self.0 {
            b"BIF" | b"CLP" | b"DJF" | b"GNF" | b"ISK" | b"JPY" | b"KMF" | b"KRW" | b"PYG" | b"RWF"
            | b"UGX" | b"UYI" | b"VND" | b"VUV" | b"XAF" | b"XOF" | b"XPF" => 0,
            b"BHD" | b"IQD" | b"JOD" | b"KWD" | b"LYD" | b"OMR" | b"TND" => 3,
            b"CLF" | b"UYW" => 4,
            _ => 2,
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl FromStr for Currency {
    type Err = MoneyError;

    fn from_str(code: &str) -> Result<Self, MoneyError> {
        match <[u8; 3]>::try_from(code.as_bytes()) {
            Ok(bytes) if bytes.iter().all(u8::is_ascii_uppercase) => Ok(Self(bytes)),
            _ => Err(MoneyError::Currency(code.chars().take(16).collect())),
        }
    }
}

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
    /// Not three upper-case letters.
    #[error("{0:?} is not a currency: three upper-case letters of ISO 4217 are needed, such as EUR")]
    Currency(String),
    /// Two currencies in one sum.
    #[error("{0} and {1} can't be added")]
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
    use super::*;

    #[test]
    fn currencies_are_three_upper_case_letters() {
        assert_eq!("EUR".parse::<Currency>().map(|c| c.to_string()), Ok("EUR".into()));
        for bad in ["", "eur", "EURO", "E1R", "€"] {
            assert!(matches!(bad.parse::<Currency>(), Err(MoneyError::Currency(_))), "{bad}");
        }
    }

    #[test]
    fn minor_units_follow_iso_4217() {
        let exponent = |code: &str| code.parse::<Currency>().map(Currency::exponent);
        assert_eq!((exponent("JPY"), exponent("EUR"), exponent("KWD")), (Ok(0), Ok(2), Ok(3)));
    }

    #[test]
    fn sums_are_checked() {
        let (eur, usd) = ("EUR".parse().unwrap(), "USD".parse().unwrap());
        let cent = Money::new(1, eur);
        assert_eq!(cent.plus(Money::new(2, eur)), Ok(Money::new(3, eur)));
        assert_eq!(cent.plus(Money::new(2, usd)), Err(MoneyError::Mixed(eur, usd)));
        assert_eq!(cent.plus(Money::new(i64::MAX, eur)), Err(MoneyError::Overflow));
        assert_eq!(Money::new(i64::MAX, eur).times(2), Err(MoneyError::Overflow));
    }
}
