//! Splits an amount by weights, to the last nano-FAR.
//!
//! Largest remainder (Hamilton's method): everybody gets the whole nano-FAR of his quota, and what is left goes, one
//! each, to the greatest remainders. Equal remainders are served in the order of their keys, so the result does not
//! depend on the order in which the parts are named.

use std::cmp::Reverse;

use crate::amount::Amount;

/// Why an amount cannot be split.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SplitError {
    /// There is something to share and nobody with a weight.
    #[error("{total} FAR cannot be split: no part has a weight, give at least one part a weight above zero")]
    NoWeight {
        /// What was to be split.
        total: Amount,
    },
    /// Two parts have the same key, so a tie between them would have no order.
    #[error("parts {first} and {second} have the same key: add their weights up before the split")]
    SameKey {
        /// Index of one.
        first: usize,
        /// Index of the other.
        second: usize,
    },
}

/// Splits `total` by the weights of `parts`; the amounts come in the order of the parts.
///
/// They sum to `total` exactly, each differs from its exact quota by less than one nano-FAR, a part without weight gets
/// nothing, and a part never gets less than one of smaller weight.
///
/// # Errors
/// [`SplitError::NoWeight`] when `total` is not zero and no weight is above zero; [`SplitError::SameKey`] when two parts
/// share a key.
///
/// ```
/// use far_ledger::{Amount, share::split};
///
/// let total = Amount::from_nano(100)?;
/// let shares = split(total, &[("a", 1), ("b", 1), ("c", 1)])?;
/// assert_eq!(shares.iter().map(|share| share.nano()).collect::<Vec<_>>(), [34, 33, 33]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[expect(clippy::arithmetic_side_effects, reason = "bounds are given at each operation")]
pub fn split<K: Ord>(total: Amount, parts: &[(K, u64)]) -> Result<Vec<Amount>, SplitError> {
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by(|a, b| parts[*a].0.cmp(&parts[*b].0));
    if let Some(pair) = order.windows(2).find(|pair| parts[pair[0]].0 == parts[pair[1]].0) {
        return Err(SplitError::SameKey { first: pair[0].min(pair[1]), second: pair[0].max(pair[1]) });
    }
    // Fewer than 2^64 weights below 2^64: the sum stays below 2^128.
    let weights: u128 = parts.iter().map(|(_, weight)| u128::from(*weight)).sum();
    if weights == 0 {
        return if total.is_zero() { Ok(vec![Amount::ZERO; parts.len()]) } else { Err(SplitError::NoWeight { total }) };
    }
    let whole = u128::from(total.nano().unsigned_abs());
    // Below 2^63 times below 2^64: the product stays below 2^127. `weights` is not zero.
    let quota =
        |index: usize| (whole * u128::from(parts[index].1) / weights, whole * u128::from(parts[index].1) % weights);
    let mut shares: Vec<u128> = (0..parts.len()).map(|index| quota(index).0).collect();
    // Floors never sum to more than the whole; what is left is less than the number of remainders above zero.
    let left = whole - shares.iter().sum::<u128>();
    order.sort_by_key(|index| Reverse(quota(*index).1));
    for index in order.into_iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
        shares[index] += 1;
    }
    // No share is more than the total, which is an amount.
    Ok(shares.into_iter().map(|share| bounded(share, total)).collect())
}

fn bounded(share: u128, total: Amount) -> Amount {
    i64::try_from(share).ok().and_then(|nano| Amount::from_nano(nano).ok()).unwrap_or(total)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn nano(nano: i64) -> Amount {
        Amount::from_nano(nano).unwrap()
    }

    fn shares(total: i64, parts: &[(u32, u64)]) -> Vec<i64> {
        split(nano(total), parts).unwrap().into_iter().map(Amount::nano).collect()
    }

    #[test]
    fn what_is_left_goes_to_the_greatest_remainders() {
        assert_eq!(shares(10, &[(0, 1), (1, 2)]), [3, 7]);
        assert_eq!(shares(1, &[(0, 1), (1, 2), (2, 1)]), [0, 1, 0]);
        assert_eq!(shares(7, &[(0, 0), (1, 5)]), [0, 7]);
        assert_eq!(shares(0, &[(0, 3), (1, 0)]), [0, 0]);
        assert_eq!(shares(0, &[]), [0; 0]);
    }

    #[test]
    fn ties_go_by_key_whatever_the_order() {
        assert_eq!(shares(2, &[(7, 5), (3, 5), (5, 5)]), [0, 1, 1]);
        assert_eq!(shares(2, &[(3, 5), (5, 5), (7, 5)]), [1, 1, 0]);
    }

    #[test]
    fn the_greatest_numbers_fit() {
        assert_eq!(shares(i64::MAX, &[(0, u64::MAX), (1, u64::MAX)]), [i64::MAX / 2 + 1, i64::MAX / 2]);
        assert_eq!(shares(i64::MAX, &[(0, u64::MAX)]), [i64::MAX]);
        assert_eq!(shares(i64::MAX, &[(0, u64::MAX), (1, 1)]).iter().sum::<i64>(), i64::MAX);
    }

    #[test]
    fn nothing_to_go_by_is_refused() {
        assert_eq!(split(nano(5), &[(1, 0), (2, 0)]), Err(SplitError::NoWeight { total: nano(5) }));
        assert_eq!(split::<u8>(nano(5), &[]), Err(SplitError::NoWeight { total: nano(5) }));
        assert_eq!(split(nano(5), &[(1, 1), (2, 1), (1, 4)]), Err(SplitError::SameKey { first: 0, second: 2 }));
    }

    fn weight() -> impl Strategy<Value = u64> {
        prop_oneof![0..4_u64, 0..10_000_u64, any::<u64>()]
    }

    fn total() -> impl Strategy<Value = i64> {
        prop_oneof![0..50_i64, 0..=i64::MAX]
    }

    proptest! {
        #[test]
        fn shares_sum_exactly_and_keep_to_their_quota(total in total(), weights in vec(weight(), 1..40)) {
            prop_assume!(weights.iter().any(|weight| *weight > 0));
            let parts: Vec<(u32, u64)> = (0..).zip(weights).collect();
            let result = shares(total, &parts);
            prop_assert_eq!(result.iter().map(|share| i128::from(*share)).sum::<i128>(), i128::from(total));
            let weights: u128 = parts.iter().map(|part| u128::from(part.1)).sum();
            for ((_, weight), share) in parts.iter().zip(&result) {
                let floor = total as u128 * u128::from(*weight) / weights;
                prop_assert!(*share >= 0 && (floor..=floor + 1).contains(&(*share as u128)));
                prop_assert!(*weight > 0 || *share == 0);
            }
        }

        #[test]
        fn more_weight_never_gets_less(total in total(), weights in vec(weight(), 2..20), more in 1..1000_u64) {
            prop_assume!(weights.iter().any(|weight| *weight > 0));
            let mut parts: Vec<(u32, u64)> = (0..).zip(weights).collect();
            let before = shares(total, &parts);
            for (a, share_a) in parts.iter().zip(&before) {
                for (b, share_b) in parts.iter().zip(&before) {
                    prop_assert!(a.1 <= b.1 || share_a >= share_b);
                }
            }
            parts[0].1 = parts[0].1.saturating_add(more);
            prop_assert!(shares(total, &parts)[0] >= before[0]);
        }

        #[test]
        fn the_order_of_the_parts_changes_nothing(
            (parts, mixed) in vec(weight(), 1..20)
                .prop_map(|weights| (0_u32..).zip(weights).collect::<Vec<_>>())
                .prop_flat_map(|parts| (Just(parts.clone()), Just(parts).prop_shuffle())),
            total in total(),
        ) {
            prop_assume!(parts.iter().any(|part| part.1 > 0));
            let straight = shares(total, &parts);
            for ((key, _), share) in mixed.iter().zip(shares(total, &mixed)) {
                prop_assert_eq!(straight[*key as usize], share);
            }
        }
    }
}
