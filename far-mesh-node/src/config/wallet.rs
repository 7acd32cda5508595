//! The address that is paid.

use std::{fmt, str::FromStr};

use super::error::ValueError;

/// An Ethereum address. Its checksum is checked where payouts are planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Wallet([u8; 20]);

impl Wallet {
    /// Its bytes.
    pub fn bytes(self) -> [u8; 20] {
        self.0
    }
}

impl FromStr for Wallet {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong = |reason| ValueError::Wallet { reason };
        let digits = text.strip_prefix("0x").ok_or_else(|| wrong("does not begin with 0x"))?;
        if digits.len() != 40 {
            return Err(wrong("must have 40 digits"));
        }
        let mut bytes = [0; 20];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| wrong("has digits that are not hexadecimal"))?;
        if bytes == [0; 20] {
            return Err(wrong("the zero address belongs to nobody"));
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Wallet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{}", hex::encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wallet_is_read_and_written() {
        let text = "0x52908400098527886e0f7030069857d2e4169ee7";
        assert_eq!(text.parse::<Wallet>().unwrap().to_string(), text);
        assert!("0x52908400098527886E0F7030069857D2E4169EE7".parse::<Wallet>().is_ok());
    }

    #[test]
    fn what_is_no_wallet_is_refused_with_the_reason() {
        for (bad, reason) in [
            ("52908400098527886e0f7030069857d2e4169ee7", "0x"),
            ("0x1234", "40 digits"),
            ("0xzz908400098527886e0f7030069857d2e4169ee7", "hexadecimal"),
            ("0x0000000000000000000000000000000000000000", "zero address"),
        ] {
            assert!(bad.parse::<Wallet>().unwrap_err().to_string().contains(reason), "{bad}");
        }
    }
}
