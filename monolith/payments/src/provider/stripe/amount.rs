//! Amounts in Stripe's units. They are ISO 4217's minor units but for a few currencies (docs.stripe.com/currencies).

use proto::{Currency, Money};

use crate::provider::Failure;

/// Why an amount is not sent.
const CODE: &str = "amount_not_expressible";

/// How Stripe counts a currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unit {
    /// Digits after the decimal point.
    exponent: u32,
    /// What an amount must be a multiple of.
    step: i64,
}

/// `None` for currencies with more digits than Stripe takes.
fn unit(currency: Currency) -> Option<Unit> {
    let (exponent, step) = match currency.code() {
        "BIF" | "CLP" | "DJF" | "GNF" | "JPY" | "KMF" | "KRW" | "MGA" | "PYG" | "RWF" | "VND" | "VUV"
        | "XAF" | "XOF" | "XPF" => (0, 1),
        // Without decimals, but Stripe goes on counting them in hundredths; those must be 0.
        "ISK" | "UGX" => (2, 100),
        // The card networks take two of the three decimals.
        "BHD" | "JOD" | "KWD" | "OMR" | "TND" => (3, 10),
        // HUF and TWD are without decimals in payouts only.
        _ if currency.exponent() <= 2 => (2, 1),
        _ => return None,
    };
    Some(Unit { exponent, step })
}

/// An amount as Stripe wants it.
///
/// # Errors
/// [`Failure::Refused`] with `amount_not_expressible`: nothing was sent.
pub(super) fn to_stripe(amount: Money) -> Result<i64, Failure> {
    let refuse = |why: &str| {
        let message = format!("{} minor units of {}: {why}", amount.minor, amount.currency);
        Failure::Refused { code: CODE.to_owned(), message }
    };
    let unit = unit(amount.currency).ok_or_else(|| refuse("the provider does not take this currency"))?;
    let shifted = shift(amount.minor, amount.currency.exponent(), unit.exponent);
    let shifted = shifted.ok_or_else(|| refuse("the provider counts this currency in larger units"))?;
    if shifted % unit.step != 0 {
        return Err(refuse("the provider takes fewer decimals of this currency"));
    }
    Ok(shifted)
}

/// An amount of Stripe's in minor units. `currency` as Stripe writes it, in lower case.
///
/// # Errors
/// [`Failure::Unknown`] for what no minor units express.
pub(in crate::provider) fn from_stripe(amount: i64, currency: &str) -> Result<Money, Failure> {
    let odd = || Failure::Unknown(format!("an amount of {amount} {currency:?}"));
    let currency: Currency = currency.to_ascii_uppercase().parse().map_err(|_| odd())?;
    let unit = unit(currency).ok_or_else(odd)?;
    let minor = shift(amount, unit.exponent, currency.exponent()).ok_or_else(odd)?;
    Ok(Money::new(minor, currency))
}

/// The same amount with another number of decimals; `None` when digits would be lost, or the range is left.
fn shift(amount: i64, from: u32, to: u32) -> Option<i64> {
    let factor = 10_i64.checked_pow(from.abs_diff(to))?;
    if to >= from {
        return amount.checked_mul(factor);
    }
    (amount % factor == 0).then_some(amount / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(minor: i64, currency: &str) -> Result<i64, String> {
        match to_stripe(Money::new(minor, currency.parse().unwrap())) {
            Ok(amount) => Ok(amount),
            Err(Failure::Refused { code, .. }) => Err(code),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn amounts_go_in_the_providers_units_and_come_back() {
        for (minor, currency, amount) in [
            (1_234, "EUR", 1_234),
            (500, "JPY", 500),
            (5, "ISK", 500),
            (5, "UGX", 500),
            (5_120, "KWD", 5_120),
            (1_000, "MGA", 10),
            (1_045, "HUF", 1_045),
            (100, "TWD", 100),
        ] {
            assert_eq!(sent(minor, currency), Ok(amount), "{currency}");
            let back = from_stripe(amount, &currency.to_lowercase()).unwrap();
            assert_eq!((back.minor, back.currency.code()), (minor, currency));
        }
    }

    #[test]
    fn what_can_not_be_expressed_is_refused_before_it_is_sent() {
        for (minor, currency) in
            [(5_124, "KWD"), (1_001, "MGA"), (1_000, "LYD"), (1_000, "CLF"), (i64::MAX, "ISK")]
        {
            assert_eq!(sent(minor, currency), Err(CODE.to_owned()), "{currency}");
        }
        assert!(from_stripe(550, "isk").is_err(), "half a króna");
        assert!(from_stripe(5, "e").is_err());
    }
}
