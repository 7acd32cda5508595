//! Small typed values of settings about a chain.

use std::{fmt, num::NonZeroU32, str::FromStr};

use far_ledger::{
    Amount,
    evm::Depth,
    payout::{MAX_ITEMS, Rules},
};

use super::error::ValueError;

/// Most blocks a deployment may wait for: days, on any chain.
const MAX_CONFIRMATIONS: u64 = 100_000;

/// Most weeks between two payouts: a year.
const MAX_WEEKS: u64 = 52;

/// Longest time between two looks at a chain: a payout is not to wait for it.
const MAX_SECONDS: u64 = 3600;

/// The number of a chain, at least one (EIP-155).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainId(u64);

/// How deep in the chain something must be to be settled: `finalized`, or a number of blocks above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmations(Depth);

/// A fee per gas, exact to a wei.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gwei(u64);

/// Wallets paid by one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchItems(usize);

/// Weeks between two payouts, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weeks(NonZeroU32);

/// The number of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockNumber(u64);

/// Seconds between two looks at a chain, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollSeconds(u16);

impl ChainId {
    /// The number.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl Confirmations {
    /// What the ledger calls it.
    pub fn depth(self) -> Depth {
        self.0
    }
}

impl Gwei {
    /// The fee in wei.
    pub fn wei(self) -> u64 {
        self.0
    }
}

impl BatchItems {
    /// The number.
    pub fn get(self) -> usize {
        self.0
    }
}

impl Weeks {
    /// The number.
    pub fn get(self) -> NonZeroU32 {
        self.0
    }
}

impl BlockNumber {
    /// The number.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl PollSeconds {
    /// A block of Ethereum.
    pub(super) const BLOCK: Self = Self(12);

    /// The time.
    pub fn interval(self) -> std::time::Duration {
        std::time::Duration::from_secs(self.0.into())
    }
}

impl Default for Confirmations {
    fn default() -> Self {
        Self(Depth::Finalized)
    }
}

impl Default for BatchItems {
    fn default() -> Self {
        Self(Rules::default().batch_items)
    }
}

/// A whole number within bounds, or an error that names them.
fn whole(text: &str, what: &'static str, least: u64, most: u64) -> Result<u64, ValueError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| text.parse().ok()).flatten();
    number.filter(|number| (least..=most).contains(number)).ok_or(ValueError::Number { what, least, most })
}

impl FromStr for ChainId {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        whole(text, "the number of a chain", 1, i64::MAX.unsigned_abs()).map(Self)
    }
}

impl FromStr for Confirmations {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text == "finalized" {
            return Ok(Self(Depth::Finalized));
        }
        let blocks = whole(text, "", 1, MAX_CONFIRMATIONS);
        blocks
            .map(|blocks| Self(Depth::Blocks(blocks)))
            .map_err(|_| ValueError::Confirmations { most: MAX_CONFIRMATIONS })
    }
}

impl FromStr for Gwei {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        // Nine decimals too, so a number of FAR and one of gwei are written alike.
        let amount: Amount = text.parse().map_err(|_| ValueError::Gwei)?;
        Some(amount.nano().unsigned_abs()).filter(|wei| *wei > 0).map(Self).ok_or(ValueError::Gwei)
    }
}

impl FromStr for BatchItems {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let items = whole(text, "a number of wallets", 1, MAX_ITEMS as u64)?;
        usize::try_from(items).map(Self).map_err(|_| ValueError::Number {
            what: "a number of wallets",
            least: 1,
            most: MAX_ITEMS as u64,
        })
    }
}

impl Default for Weeks {
    fn default() -> Self {
        Self(NonZeroU32::MIN)
    }
}

impl FromStr for Weeks {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let weeks = whole(text, "a number of weeks", 1, MAX_WEEKS)?;
        let weeks = u32::try_from(weeks).ok().and_then(NonZeroU32::new);
        weeks.map(Self).ok_or(ValueError::Number { what: "a number of weeks", least: 1, most: MAX_WEEKS })
    }
}

impl FromStr for BlockNumber {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        whole(text, "the number of a block", 0, i64::MAX.unsigned_abs()).map(Self)
    }
}

impl FromStr for PollSeconds {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let seconds = whole(text, "a number of seconds", 1, MAX_SECONDS)?;
        u16::try_from(seconds).map(Self).map_err(|_| ValueError::Number {
            what: "a number of seconds",
            least: 1,
            most: MAX_SECONDS,
        })
    }
}

impl fmt::Display for Gwei {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Amount::from_nano(i64::try_from(self.0).unwrap_or(i64::MAX)) {
            Ok(amount) => amount.fmt(f),
            Err(_) => self.0.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depths_and_fees() {
        assert_eq!("finalized".parse::<Confirmations>().unwrap().depth(), Depth::Finalized);
        assert_eq!("1".parse::<Confirmations>().unwrap().depth(), Depth::Blocks(1));
        assert_eq!("12".parse::<Confirmations>().unwrap().depth(), Depth::Blocks(12));
        for bad in ["", "final", "0", "-1", "100001", "1.5"] {
            assert!(bad.parse::<Confirmations>().is_err(), "{bad:?}");
        }
        assert_eq!("0.1".parse::<Gwei>().unwrap().wei(), 100_000_000);
        assert_eq!("200".parse::<Gwei>().unwrap().to_string(), "200");
        for bad in ["", "0", "-1", "1e9", "0.0000000001", "200gwei"] {
            assert!(bad.parse::<Gwei>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn numbers_have_bounds() {
        assert_eq!("500".parse::<BatchItems>().unwrap().get(), 500);
        assert_eq!("31337".parse::<ChainId>().unwrap().get(), 31_337);
        assert_eq!("1".parse::<PollSeconds>().unwrap().interval().as_secs(), 1);
        for bad in ["", "0", "501", "+4", "many"] {
            assert!(bad.parse::<BatchItems>().unwrap_err().to_string().contains("1 to 500"), "{bad:?}");
        }
        for bad in ["", "0", "0x1", "9223372036854775808"] {
            assert!(bad.parse::<ChainId>().is_err(), "{bad:?}");
        }
        assert_eq!("4".parse::<Weeks>().unwrap().get().get(), 4);
        assert!("0".parse::<Weeks>().is_err() && "53".parse::<Weeks>().is_err());
        assert!("0".parse::<BlockNumber>().is_ok() && "-1".parse::<BlockNumber>().is_err());
        assert!("0".parse::<PollSeconds>().is_err() && "3601".parse::<PollSeconds>().is_err());
    }
}
