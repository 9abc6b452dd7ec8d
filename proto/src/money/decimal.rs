//! Amounts as people write them, in major units with a decimal point: `12.34`. No floats on the way.

use std::fmt;

use super::{Currency, Money, MoneyError};

impl Money {
    /// Reads major units: an optional `-`, digits, and at most as many decimals as the currency has (fewer mean zeros):
    /// `12.345` in KWD is 12345 minor units. Nothing is rounded, and no other sign, space or separator is taken.
    ///
    /// # Errors
    /// [`MoneyError::Malformed`], [`MoneyError::TooPrecise`], [`MoneyError::Overflow`].
    pub fn parse(text: &str, currency: Currency) -> Result<Self, MoneyError> {
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
        let (whole, decimals) = digits.split_once('.').unwrap_or((digits, "0"));
        let all = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !all(whole) || !all(decimals) {
            return Err(MoneyError::Malformed);
        }
        let exponent = currency.exponent();
        let places = usize::try_from(exponent).unwrap_or(usize::MAX);
        let given = if digits.contains('.') { decimals.len() } else { 0 };
        if given > places {
            return Err(MoneyError::TooPrecise { currency, exponent, given });
        }
        // Downwards for a negative amount: there is one more of them than of the others.
        let digit = |minor: i64, digit: i64| {
            let minor = minor.checked_mul(10)?;
            if negative { minor.checked_sub(digit) } else { minor.checked_add(digit) }
        };
        let read = whole.bytes().chain(decimals.bytes().take(given)).map(|byte| i64::from(byte - b'0'));
        let minor = read.chain(std::iter::repeat_n(0, places - given)).try_fold(0_i64, digit);
        Ok(Self { minor: minor.ok_or(MoneyError::Overflow)?, currency })
    }

    /// The major units, with all decimals of the currency: `12.30`; what [`Money::parse`] reads.
    pub fn decimal(self) -> String {
        let (sign, minor) = (if self.minor < 0 { "-" } else { "" }, self.minor.unsigned_abs());
        let places = usize::try_from(self.currency.exponent()).unwrap_or_default();
        let digits = format!("{minor:0width$}", width = places + 1);
        let (whole, decimals) = digits.split_at(digits.len() - places);
        if places == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{decimals}") }
    }
}

/// `12.30 EUR`.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.decimal(), self.currency)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn currency(code: &str) -> Currency {
        code.parse().unwrap()
    }

    fn minor(text: &str, code: &str) -> Result<i64, MoneyError> {
        Money::parse(text, currency(code)).map(|money| money.minor)
    }

    #[test]
    fn major_units_are_read_to_the_last_decimal() {
        for (text, code, expected) in [
            ("12.34", "EUR", 1_234),
            ("12.3", "EUR", 1_230),
            ("12", "EUR", 1_200),
            ("-0.05", "EUR", -5),
            ("0", "EUR", 0),
            ("0012", "JPY", 12),
            ("12.345", "KWD", 12_345),
            ("1.0001", "CLF", 10_001),
            ("92233720368547758.07", "EUR", i64::MAX),
            ("-92233720368547758.08", "EUR", i64::MIN),
        ] {
            assert_eq!(minor(text, code), Ok(expected), "{text} {code}");
        }
    }

    #[test]
    fn what_is_no_amount_of_the_currency_is_refused() {
        for text in
            ["", "-", ".", "1.", ".5", "+1", "--1", "1e3", " 1", "1 ", "1,5", "1.2.3", "1_0", "０", "NaN"]
        {
            assert_eq!(minor(text, "EUR"), Err(MoneyError::Malformed), "{text:?}");
        }
        for (text, code, exponent, given) in
            [("1.001", "EUR", 2, 3), ("1.0", "JPY", 0, 1), ("1.0000", "KWD", 3, 4)]
        {
            let currency = currency(code);
            assert_eq!(
                minor(text, code),
                Err(MoneyError::TooPrecise { currency, exponent, given }),
                "{text} {code}"
            );
        }
        for text in ["92233720368547758.08", "-92233720368547758.09", "1000000000000000000000"] {
            assert_eq!(minor(text, "EUR"), Err(MoneyError::Overflow), "{text}");
        }
    }

    #[test]
    fn an_amount_shows_its_decimals_and_its_currency() {
        for (minor, code, shown) in [
            (5, "EUR", "0.05 EUR"),
            (-1_230, "EUR", "-12.30 EUR"),
            (12, "JPY", "12 JPY"),
            (0, "KWD", "0.000 KWD"),
        ] {
            assert_eq!(Money::new(minor, currency(code)).to_string(), shown);
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(minor in any::<i64>(), which in any::<proptest::sample::Index>()) {
            let all: Vec<Currency> = Currency::all().collect();
            let money = Money::new(minor, *which.get(&all));
            prop_assert_eq!(Money::parse(&money.decimal(), money.currency), Ok(money));
        }

        #[test]
        fn no_text_breaks_the_reading(text in "\\PC{0,24}") {
            if let Ok(money) = Money::parse(&text, currency("EUR")) {
                prop_assert!(text.bytes().all(|byte| byte.is_ascii_digit() || b"-.".contains(&byte)));
                prop_assert_eq!(Money::parse(&money.decimal(), money.currency), Ok(money));
            }
        }
    }
}
