//! A price in FAR, exact to the ninth decimal.

use std::{fmt, str::FromStr};

use super::error::ValueError;

const DECIMALS: usize = 9;
const NANO: i64 = 1_000_000_000;

/// An amount of FAR that is not negative, in nano-FAR (10^-9 FAR): never a binary fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Price(i64);

impl Price {
    /// 0.0001 FAR, the price of a token where nobody set one.
    pub const DEFAULT_PER_TOKEN: Self = Self(100_000);

    /// Nano-FAR.
    pub fn nano(self) -> i64 {
        self.0
    }
}

impl FromStr for Price {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong = |reason| ValueError::Price { reason };
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if text.starts_with('-') {
            return Err(wrong("a price is not negative"));
        }
        if !digits(whole) || !digits(fraction) {
            return Err(wrong("only digits and one decimal point"));
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > DECIMALS {
            return Err(wrong("at most 9 decimals"));
        }
        let whole: i64 = whole.parse().map_err(|_| wrong("too large"))?;
        let fraction: i64 = format!("{fraction:0<DECIMALS$}").parse().map_err(|_| wrong("at most 9 decimals"))?;
        let nano = whole.checked_mul(NANO).and_then(|nano| nano.checked_add(fraction));
        nano.map(Self).ok_or_else(|| wrong("too large"))
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / NANO, self.0 % NANO);
        if fraction == 0 {
            return write!(f, "{whole}");
        }
        let fraction = format!("{fraction:0DECIMALS$}");
        write!(f, "{whole}.{}", fraction.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn prices_are_exact() {
        for (text, nano) in
            [("0.0001", 100_000), ("0", 0), ("1.50", 1_500_000_000), ("0.000000001", 1), ("7", 7 * NANO)]
        {
            assert_eq!(text.parse::<Price>().unwrap().nano(), nano, "{text}");
        }
        assert_eq!(Price::DEFAULT_PER_TOKEN.to_string(), "0.0001");
        assert_eq!("9223372036.854775807".parse::<Price>().unwrap().nano(), i64::MAX);
    }

    #[test]
    fn what_is_no_price_is_refused() {
        for bad in [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "1e-4",
            "0x1",
            "1,5",
            "0.0000000001",
            "9223372036.854775808",
            "1.2.3",
            " 1",
            "+1",
            "inf",
        ] {
            assert!(bad.parse::<Price>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_price_survives_its_text_form(nano in 0..=i64::MAX) {
            prop_assert_eq!(Price(nano).to_string().parse::<Price>().unwrap(), Price(nano));
        }
    }
}
