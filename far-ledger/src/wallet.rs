//! Where a provider is paid: an Ethereum address, checked before anybody earns anything on it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use tiny_keccak::{Hasher, Keccak};

/// Longest text an error repeats.
const SHOWN_CHARS: usize = 48;

/// An Ethereum address; its text carries the checksum of EIP-55, the one form in which it is stored and shown.
///
/// ```
/// use far_ledger::WalletAddress;
///
/// let wallet: WalletAddress = "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed".parse()?;
/// assert_eq!(wallet.to_string(), "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed");
/// // One letter in the wrong case: a typing error somewhere, so the address is refused.
/// assert!("0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAed".parse::<WalletAddress>().is_err());
/// # Ok::<(), far_ledger::wallet::ParseWalletError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WalletAddress([u8; 20]);

/// Why a text is not a [`WalletAddress`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseWalletError {
    /// The text is not `0x` and 40 hexadecimal digits.
    #[error("{text:?} is not a wallet address: write 0x and 40 hexadecimal digits")]
    Form {
        /// The text, cut where it is long.
        text: String,
    },
    /// Upper and lower case are mixed, and not as EIP-55 mixes them for this address.
    #[error("wallet address {text} fails its checksum, so a character may be wrong: copy it again from the wallet")]
    Checksum {
        /// The text.
        text: String,
    },
    /// The zero address, which no one holds and the token refuses to pay.
    #[error("the zero address cannot be paid: give the address of a wallet that you hold")]
    Zero,
}

impl WalletAddress {
    /// The address with these bytes.
    ///
    /// # Errors
    /// [`ParseWalletError::Zero`] for the zero address.
    pub fn from_bytes(bytes: [u8; 20]) -> Result<Self, ParseWalletError> {
        if bytes == [0; 20] {
            return Err(ParseWalletError::Zero);
        }
        Ok(Self(bytes))
    }

    /// The 20 bytes of the address.
    pub const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }
}

impl fmt::Display for WalletAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
        let lower: String = digits.map(|digit| char::from_digit(digit.into(), 16).unwrap_or('0')).collect();
        let mut hash = [0; 32];
        let mut keccak = Keccak::v256();
        keccak.update(lower.as_bytes());
        keccak.finalize(&mut hash);
        // EIP-55: a letter is upper case where the hash of the lower-case digits has a nibble of at least 8.
        let nibbles = hash.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
        let text: String = lower
            .chars()
            .zip(nibbles)
            .map(|(digit, nibble)| if nibble >= 8 { digit.to_ascii_uppercase() } else { digit })
            .collect();
        f.pad(&format!("0x{text}"))
    }
}

impl fmt::Debug for WalletAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for WalletAddress {
    type Err = ParseWalletError;

    fn from_str(text: &str) -> Result<Self, ParseWalletError> {
        let form = || ParseWalletError::Form { text: text.chars().take(SHOWN_CHARS).collect() };
        let digits = text.strip_prefix("0x").ok_or_else(form)?;
        if digits.len() != 40 {
            return Err(form());
        }
        let mut bytes = [0_u8; 20];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
            let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|nibble| u8::try_from(nibble).ok());
            let (high, low) = nibble(pair[0]).zip(nibble(pair[1])).ok_or_else(form)?;
            *byte = (high << 4) | low;
        }
        let wallet = Self::from_bytes(bytes)?;
        let mixed = digits.bytes().any(|d| d.is_ascii_lowercase()) && digits.bytes().any(|d| d.is_ascii_uppercase());
        if mixed && wallet.to_string() != text {
            return Err(ParseWalletError::Checksum { text: text.to_owned() });
        }
        Ok(wallet)
    }
}

impl TryFrom<String> for WalletAddress {
    type Error = ParseWalletError;

    fn try_from(text: String) -> Result<Self, ParseWalletError> {
        text.parse()
    }
}

impl From<WalletAddress> for String {
    fn from(wallet: WalletAddress) -> Self {
        wallet.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The test vectors of EIP-55.
    const VECTORS: [&str; 8] = [
        "0x52908400098527886E0F7030069857D2E4169EE7",
        "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
        "0xde709f2102306220921060314715629080e2fb77",
        "0x27b1fdb04752bbc536007a920d24acb045561c26",
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
        "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
    ];

    #[test]
    fn the_vectors_of_eip_55_hold() {
        for text in VECTORS {
            assert_eq!(text.parse::<WalletAddress>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn one_case_needs_no_checksum_and_a_wrong_mix_is_refused() {
        let right = VECTORS[4];
        let wallet: WalletAddress = right.parse().unwrap();
        assert_eq!(right.to_ascii_lowercase().parse(), Ok(wallet));
        assert_eq!(format!("0x{}", right[2..].to_ascii_uppercase()).parse(), Ok(wallet));
        let wrong = right.replace("Ae", "ae");
        assert_eq!(wrong.parse::<WalletAddress>(), Err(ParseWalletError::Checksum { text: wrong.clone() }));
        assert!(serde_json::from_str::<WalletAddress>(&format!("{wrong:?}")).is_err());
        assert_eq!(serde_json::to_string(&wallet).unwrap(), format!("{right:?}"));
    }

    #[test]
    fn other_texts_are_refused() {
        let long = "a".repeat(1 << 20);
        for text in [
            "",
            "0x",
            "0x123",
            "52908400098527886E0F7030069857D2E4169EE7",
            "0X52908400098527886E0F7030069857D2E4169EE7",
            "0x52908400098527886E0F7030069857D2E4169EE",
            "0x52908400098527886E0F7030069857D2E4169EE7a",
            "0x52908400098527886E0F7030069857D2E4169EG7",
            " 0x52908400098527886E0F7030069857D2E4169EE7",
            "0xéééééééééééééééééééé",
            &long,
        ] {
            let Err(ParseWalletError::Form { text: shown }) = text.parse::<WalletAddress>() else {
                panic!("{text:?} is no address")
            };
            assert!(shown.chars().count() <= SHOWN_CHARS);
        }
        let zero = format!("0x{}", "0".repeat(40));
        assert_eq!(zero.parse::<WalletAddress>(), Err(ParseWalletError::Zero));
    }

    proptest! {
        #[test]
        fn text_and_address_are_one(bytes in any::<[u8; 20]>()) {
            prop_assume!(bytes != [0; 20]);
            let wallet = WalletAddress::from_bytes(bytes).unwrap();
            prop_assert_eq!(wallet.to_string().parse::<WalletAddress>(), Ok(wallet));
        }
    }
}
