//! How numbers and moments are written.

use far_ledger::{UnixMillis, evm::U256};

use crate::calendar;

/// Decimals of FAR on a chain, and of ether.
const DECIMALS: usize = 18;

/// Units of 10^-18 as the shortest decimal: FAR or ether.
pub(super) fn decimal(units: U256) -> String {
    let digits = format!("{:0>1$}", units.to_string(), DECIMALS + 1);
    let (whole, fraction) = digits.split_at(digits.len() - DECIMALS);
    format!("{whole}.{fraction}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A moment to the minute, UTC.
pub(super) fn moment(at: UnixMillis) -> String {
    format!("{} UTC", calendar::minute(at))
}

/// `1 batch`, `2 batches`.
pub(super) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_written_whole() {
        for (units, text) in [
            (U256::zero(), "0"),
            (U256::one(), "0.000000000000000001"),
            (U256::exp10(18), "1"),
            (U256::exp10(27), "1000000000"),
            (U256::exp10(17) * 25, "2.5"),
            (U256::exp10(19), "10"),
        ] {
            assert_eq!(decimal(units), text);
        }
    }
}
