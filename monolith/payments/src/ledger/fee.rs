//! The platform's fee.

use proto::{Money, MoneyError};

/// The fee on captured money, in basis points (hundredths of a per cent): 1.5 %.
pub const FEE_BASIS_POINTS: i64 = 150;

const BASIS: i128 = 10_000;

/// The fee on a captured amount, in the same currency: [`FEE_BASIS_POINTS`], rounded to the nearest minor unit, halves up.
/// It is not returned by a refund.
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

    use super::*;

    fn fee_of(minor: i64) -> i64 {
        fee(Money::new(minor, "EUR".parse().unwrap())).unwrap().minor
    }

    #[test]
    fn a_half_is_rounded_up() {
        assert_eq!([0, 33, 34, 100, 300, 10_000].map(fee_of), [0, 0, 1, 2, 5, 150]);
    }

    proptest! {
        #[test]
        fn a_fee_is_within_half_a_unit_and_never_above_the_amount(minor in 0..=i64::MAX) {
            let fee = i128::from(fee_of(minor));
            let exact = i128::from(minor) * i128::from(FEE_BASIS_POINTS);
            prop_assert!((fee * BASIS - exact).abs() * 2 <= BASIS);
            prop_assert!(fee <= i128::from(minor));
        }
    }
}
