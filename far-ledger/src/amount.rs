//! Amounts of FAR as whole numbers of nano-FAR: nothing is ever rounded behind anybody's back.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Nano-FAR in one FAR. The token has 18 decimals, so a nano-FAR is exactly 10^9 of its smallest units.
pub const NANO_PER_FAR: i64 = 1_000_000_000;

/// Decimals of FAR that an [`Amount`] can tell apart.
const DECIMALS: usize = 9;

/// Longest text an error repeats: what is wrong shows in its beginning.
const SHOWN_CHARS: usize = 40;

/// An amount of FAR, from 0 to 9223372036.854775807, exact to 10^-9.
///
/// Its text is the shortest decimal that says it: `0`, `12`, `0.0002`; never a sign, an exponent, or a zero at the end
/// of the fraction. It is read back from any plain decimal of at most nine decimals, and in JSON it is a string, because
/// a JSON number is a float to most readers.
///
/// Invariant: never negative. A debt is an amount on the other side of a book, not an amount below zero.
///
/// ```
/// use far_ledger::Amount;
///
/// let price: Amount = "0.0001".parse()?;
/// assert_eq!(price.nano(), 100_000);
/// assert_eq!(price.checked_mul(2).map(|cost| cost.to_string()).as_deref(), Some("0.0002"));
/// assert!("1e-4".parse::<Amount>().is_err());
/// # Ok::<(), far_ledger::amount::ParseAmountError>(())
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(i64);

/// A number of nano-FAR below zero.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{nano} nano-FAR is below zero: an amount is never negative")]
pub struct NegativeAmount {
    /// The number.
    pub nano: i64,
}

/// Why a text is not an [`Amount`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseAmountError {
    /// There is no text.
    #[error("an amount of FAR is missing: write a decimal, for example 0.0002")]
    Empty,
    /// The text is not a plain decimal.
    #[error(
        "{text:?} is not an amount of FAR: write a plain decimal without sign, exponent or leading zeros, for example 0.0002"
    )]
    Form {
        /// The text, cut where it is long.
        text: String,
    },
    /// The text has more decimals than an amount can hold.
    #[error("{text:?} has more than {DECIMALS} decimals: round it to nano-FAR, an amount is never rounded in reading")]
    TooFine {
        /// The text, cut where it is long.
        text: String,
    },
    /// The amount is beyond [`Amount::MAX`].
    #[error("{text:?} is more than an amount can hold: the greatest is {} FAR", Amount::MAX)]
    TooLarge {
        /// The text, cut where it is long.
        text: String,
    },
}

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// The greatest amount: 9223372036.854775807 FAR.
    pub const MAX: Self = Self(i64::MAX);

    /// The amount of `nano` nano-FAR.
    ///
    /// # Errors
    /// [`NegativeAmount`] when `nano` is below zero.
    pub const fn from_nano(nano: i64) -> Result<Self, NegativeAmount> {
        if nano < 0 {
            return Err(NegativeAmount { nano });
        }
        Ok(Self(nano))
    }

    /// The amount of `nano` nano-FAR, up to 4.294967295 FAR: for constants.
    pub const fn from_nano_u32(nano: u32) -> Self {
        Self(nano as i64)
    }

    /// The amount in nano-FAR, never negative.
    pub const fn nano(self) -> i64 {
        self.0
    }

    /// Whether this is nothing.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// `self + other`; `None` beyond [`Amount::MAX`].
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// `self - other`; `None` below zero.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).filter(|nano| *nano >= 0).map(Self)
    }

    /// `self * factor`; `None` beyond [`Amount::MAX`].
    pub fn checked_mul(self, factor: u64) -> Option<Self> {
        if self.is_zero() {
            return Some(Self::ZERO);
        }
        self.0.checked_mul(i64::try_from(factor).ok()?).map(Self)
    }

    /// `self * part / whole`, rounded down; all of it where `part` is not below `whole`.
    #[must_use]
    pub fn share(self, part: u64, whole: u64) -> Self {
        if part >= whole {
            return self;
        }
        // Two factors below 2^64, and a divisor above zero; the quotient is less than `self`.
        let share = u128::from(self.0.unsigned_abs())
            .checked_mul(part.into())
            .and_then(|product| product.checked_div(whole.into()))
            .and_then(|nano| i64::try_from(nano).ok());
        share.map_or(self, Self)
    }

    /// The sum of `amounts`; `None` beyond [`Amount::MAX`].
    pub fn checked_sum(amounts: impl IntoIterator<Item = Self>) -> Option<Self> {
        amounts.into_iter().try_fold(Self::ZERO, Self::checked_add)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, nano) = (self.0 / NANO_PER_FAR, self.0 % NANO_PER_FAR);
        if nano == 0 {
            return f.pad(&whole.to_string());
        }
        f.pad(format!("{whole}.{nano:0DECIMALS$}").trim_end_matches('0'))
    }
}

impl fmt::Debug for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} FAR")
    }
}

impl FromStr for Amount {
    type Err = ParseAmountError;

    fn from_str(text: &str) -> Result<Self, ParseAmountError> {
        let shown = || text.chars().take(SHOWN_CHARS).collect::<String>();
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if text.is_empty() {
            return Err(ParseAmountError::Empty);
        }
        let (whole, fraction) = match text.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (text, None),
        };
        let leading_zero = whole.len() > 1 && whole.starts_with('0');
        if !digits(whole) || leading_zero || fraction.is_some_and(|part| !digits(part)) {
            return Err(ParseAmountError::Form { text: shown() });
        }
        let fraction = fraction.unwrap_or_default();
        if fraction.len() > DECIMALS {
            return Err(ParseAmountError::TooFine { text: shown() });
        }
        // Digits alone from here on: the one way to fail is to be too large.
        let too_large = || ParseAmountError::TooLarge { text: shown() };
        let whole: i64 = whole.parse().map_err(|_| too_large())?;
        let nano: i64 = format!("{fraction:0<DECIMALS$}").parse().map_err(|_| too_large())?;
        whole.checked_mul(NANO_PER_FAR).and_then(|whole| whole.checked_add(nano)).map(Self).ok_or_else(too_large)
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Amount;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an amount of FAR as a decimal string, for example \"0.0002\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Amount, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nano(nano: i64) -> Amount {
        Amount::from_nano(nano).unwrap()
    }

    #[test]
    fn the_text_is_the_shortest_decimal() {
        for (value, text) in [
            (0, "0"),
            (1, "0.000000001"),
            (200_000, "0.0002"),
            (100_000_000, "0.1"),
            (12 * NANO_PER_FAR, "12"),
            (i64::MAX, "9223372036.854775807"),
        ] {
            assert_eq!(nano(value).to_string(), text);
            assert_eq!(text.parse::<Amount>(), Ok(nano(value)));
        }
        assert_eq!(format!("[{:>8}]", nano(200_000)), "[  0.0002]");
    }

    #[test]
    fn zeros_at_the_end_are_read() {
        assert_eq!("5.000000000".parse::<Amount>(), Ok(nano(5 * NANO_PER_FAR)));
        assert_eq!("0.10".parse::<Amount>(), Ok(nano(100_000_000)));
    }

    #[test]
    fn what_is_no_plain_decimal_is_refused() {
        type E = ParseAmountError;
        let kind = |text: &str| text.parse::<Amount>().unwrap_err();
        assert_eq!(kind(""), E::Empty);
        for text in [
            "-1", "+1", "1e3", "1E-9", ".5", "5.", ".", " 1", "1 ", "1,5", "0x10", "1.2.3", "00.5", "007", "NaN",
            "inf", "1_000", "١", "1.-5", "\0",
        ] {
            assert!(matches!(kind(text), E::Form { .. }), "{text:?}");
        }
        assert!(matches!(kind("0.0000000001"), E::TooFine { .. }));
        assert!(matches!(kind("1.0000000000"), E::TooFine { .. }));
        for text in ["9223372036.854775808", "9223372037", "99999999999999999999999"] {
            assert!(matches!(kind(text), E::TooLarge { .. }), "{text:?}");
        }
        let E::TooLarge { text } = kind(&"9".repeat(1 << 20)) else { panic!("a long number is too large") };
        assert_eq!(text.len(), SHOWN_CHARS);
    }

    #[test]
    fn arithmetic_stops_at_both_ends() {
        assert_eq!(Amount::MAX.checked_add(nano(1)), None);
        assert_eq!(nano(1).checked_sub(nano(2)), None);
        assert_eq!(nano(2).checked_sub(nano(2)), Some(Amount::ZERO));
        assert_eq!(Amount::MAX.checked_mul(2), None);
        assert_eq!(nano(1).checked_mul(u64::MAX), None);
        assert_eq!(Amount::ZERO.checked_mul(u64::MAX), Some(Amount::ZERO));
        assert_eq!(Amount::checked_sum([Amount::MAX, nano(1)]), None);
        assert_eq!(Amount::from_nano(-1), Err(NegativeAmount { nano: -1 }));
    }

    #[test]
    fn json_holds_a_string_and_refuses_a_number() {
        assert_eq!(serde_json::to_string(&nano(200_000)).unwrap(), "\"0.0002\"");
        assert_eq!(serde_json::from_str::<Amount>("\"0.0002\"").unwrap(), nano(200_000));
        for bad in ["0.0002", "1", "null", "\"-1\"", "\"\""] {
            assert!(serde_json::from_str::<Amount>(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn text_and_amount_are_one(value in 0..=i64::MAX) {
            let text = nano(value).to_string();
            prop_assert_eq!(text.parse::<Amount>(), Ok(nano(value)));
            prop_assert!(!text.contains('.') || !text.ends_with('0'));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,32}|[0-9.+eE-]{0,32}") {
            if let Ok(amount) = text.parse::<Amount>() {
                prop_assert_eq!(amount.to_string().parse::<Amount>(), Ok(amount));
            }
        }
    }
}
