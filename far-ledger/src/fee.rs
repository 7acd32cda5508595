//! What an operator keeps of a session's cost.

use std::str::FromStr;

use crate::{amount::Amount, share::split};

/// Basis points in the whole.
const WHOLE: u16 = 10_000;

/// A part of every cost, in basis points: hundredths of a percent.
///
/// ```
/// use far_ledger::{Amount, FeeRate};
///
/// let rate: FeeRate = "250".parse()?; // 2.5 %
/// let (fee, rest) = rate.of(Amount::from_nano(1_000)?);
/// assert_eq!((fee.nano(), rest.nano()), (25, 975));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FeeRate(u16);

/// A text or a number that is no fee.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a fee: give basis points from 0 to {WHOLE}, for example 250 for 2.5 %")]
pub struct FeeRateError {
    /// What was given.
    pub text: String,
}

impl FeeRate {
    /// No fee.
    pub const ZERO: Self = Self(0);

    /// A fee of `basis_points` hundredths of a percent.
    ///
    /// # Errors
    /// [`FeeRateError`] above 10,000, which is all of the cost.
    pub fn new(basis_points: u16) -> Result<Self, FeeRateError> {
        if basis_points > WHOLE {
            return Err(FeeRateError { text: basis_points.to_string() });
        }
        Ok(Self(basis_points))
    }

    /// The fee in hundredths of a percent.
    pub const fn basis_points(self) -> u16 {
        self.0
    }

    /// The operator's part of `cost` and the providers': they sum to it. By largest remainder, and a tie is the
    /// providers'.
    pub fn of(self, cost: Amount) -> (Amount, Amount) {
        let providers = WHOLE.saturating_sub(self.0);
        // Keys differ and the weights sum to the whole, so the split cannot fail; it gives its parts in their order.
        let shares = split(cost, &[(0, u64::from(providers)), (1, u64::from(self.0))]).unwrap_or_default();
        match shares.as_slice() {
            [providers, fee] => (*fee, *providers),
            _ => (Amount::ZERO, cost),
        }
    }
}

impl FromStr for FeeRate {
    type Err = FeeRateError;

    fn from_str(text: &str) -> Result<Self, FeeRateError> {
        let refused = || FeeRateError { text: text.chars().take(20).collect() };
        let points = text.parse().map_err(|_| refused())?;
        Self::new(points).map_err(|_| refused())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(basis_points: u16, cost: i64) -> (i64, i64) {
        let (fee, rest) = FeeRate::new(basis_points).unwrap().of(Amount::from_nano(cost).unwrap());
        (fee.nano(), rest.nano())
    }

    #[test]
    fn a_fee_is_a_part() {
        assert_eq!(of(0, 7), (0, 7));
        assert_eq!(of(10_000, 7), (7, 0));
        assert_eq!(of(5_000, 7), (3, 4), "the odd one is the providers'");
        assert_eq!(of(1, 9_999), (1, 9_998));
        assert_eq!(of(1, 4_999), (0, 4_999));
        for text in ["10001", "-1", "2.5", "", "99999"] {
            assert!(text.parse::<FeeRate>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn both_parts_are_the_whole(points in 0..=10_000_u16, cost in 0..=i64::MAX) {
            let (fee, rest) = of(points, cost);
            prop_assert_eq!(fee + rest, cost);
            let exact = i128::from(cost) * i128::from(points);
            prop_assert!((i128::from(fee) * 10_000 - exact).abs() <= 5_000);
        }
    }
}
