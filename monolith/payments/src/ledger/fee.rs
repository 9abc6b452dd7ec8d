//! The platform's fee.

use proto::{Money, MoneyError};

/// The fee on captured money, in basis points (hundredths of a per cent): 1.5 %.
pub const FEE_BASIS_POINTS: i64 = 150;

const BASIS: i128 = 10_000;

/// The fee on a captured amount, in the same currency: [`FEE_BASIS_POINTS`], rounded to the nearest minor unit of it, halves up.
/// What rounding adds or leaves out is booked to [`Account::Fees`](crate::Account::Fees): the merchant is owed the rest, to the
/// unit. The fee is not returned by a refund.
///
/// # Errors
/// [`MoneyError::Overflow`] can't happen for an `i64` amount, but is not assumed away.
pub fn fee(amount: Money) -> Result<Money, MoneyError> {
    let share = i128::from(amount.minor) * i128::from(FEE_BASIS_POINTS);
    let minor = i64::try_from((share + BASIS / 2).div_euclid(BASIS)).map_err(|_| MoneyError::Overflow)?;
    Ok(Money::new(minor, amount.currency))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::{Account, Posting, Transaction};

    fn fee_of(minor: i64) -> i64 {
        fee(Money::new(minor, "EUR".parse().unwrap())).unwrap().minor
    }

    #[test]
    fn a_half_is_rounded_up() {
        assert_eq!([0, 33, 34, 100, 300, 10_000].map(fee_of), [0, 0, 1, 2, 5, 150]);
    }

    /// Debits of clearing, and what payable and fees were credited, for captures of these amounts.
    fn booked(amounts: &[i64], currency: &str) -> (i64, i64, i64) {
        let money = |minor: &i64| Money::new(*minor, currency.parse().unwrap());
        let booked = amounts.iter().map(|minor| Transaction::capture(Uuid::now_v7(), money(minor)).unwrap());
        let lines: Vec<Posting> = booked.flat_map(|transaction| transaction.postings).collect();
        let of = |account| {
            let of = lines.iter().filter(|line| line.account == account);
            of.map(|line| line.amount.minor).sum::<i64>()
        };
        (of(Account::Clearing), -of(Account::Payable), -of(Account::Fees))
    }

    #[test]
    fn fees_take_what_rounding_adds_or_leaves_out_whatever_the_decimals() {
        // 1,000 yen, 10.00 euros and 1.000 dinars: at once, and in three parts whose fees are 4.995, 4.995 and 5.01.
        for currency in ["JPY", "EUR", "KWD"] {
            assert_eq!(booked(&[1_000], currency), (1_000, 985, 15), "{currency}");
            assert_eq!(booked(&[333, 333, 334], currency), (1_000, 985, 15), "{currency}");
            // Parts of 100 have a fee of 1.5 each, which is 2: fees gets five minor units more, payable five less.
            assert_eq!(booked(&[100; 10], currency), (1_000, 980, 20), "{currency}");
            // Parts of 33 have one of 0.495, which is none.
            assert_eq!(booked(&[33; 10], currency), (330, 330, 0), "{currency}");
        }
    }

    proptest! {
        #[test]
        fn no_unit_is_lost_in_parts_and_fees_are_off_by_half_a_unit_a_capture_at_most(
            parts in prop::collection::vec(1..=1_000_000_000i64, 1..50),
            currency in prop::sample::select(vec!["JPY", "EUR", "KWD"]),
        ) {
            let (clearing, payable, fees) = booked(&parts, currency);
            prop_assert_eq!(clearing, parts.iter().sum::<i64>());
            prop_assert_eq!(clearing, payable + fees);
            let exact = i128::from(clearing) * i128::from(FEE_BASIS_POINTS);
            let off = (i128::from(fees) * BASIS - exact).abs();
            prop_assert!(off * 2 <= BASIS * i128::try_from(parts.len()).unwrap(), "off by {off} / {BASIS}");
        }

        #[test]
        fn a_fee_is_within_half_a_unit_and_never_above_the_amount(minor in 0..=i64::MAX) {
            let fee = i128::from(fee_of(minor));
            let exact = i128::from(minor) * i128::from(FEE_BASIS_POINTS);
            prop_assert!((fee * BASIS - exact).abs() * 2 <= BASIS);
            prop_assert!(fee <= i128::from(minor));
        }
    }
}
