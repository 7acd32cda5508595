//! Hashes and addresses as the ledger stores them.

use ethers_core::{
    types::{Address, H256},
    utils::to_checksum,
};

use crate::payout::error::PayError;

pub(in crate::payout) fn hash_text(hash: H256) -> String {
    format!("{hash:#x}")
}

pub(in crate::payout) fn address_text(address: Address) -> String {
    to_checksum(&address, None)
}

pub(in crate::payout) fn read_hash(what: &'static str, text: &str) -> Result<H256, PayError> {
    Ok(H256(bytes(what, text)?))
}

pub(in crate::payout) fn read_address(what: &'static str, text: &str) -> Result<Address, PayError> {
    Ok(Address::from(bytes::<20>(what, text)?))
}

fn bytes<const N: usize>(what: &'static str, text: &str) -> Result<[u8; N], PayError> {
    let digits = text.strip_prefix("0x").and_then(|digits| hex::decode(digits).ok());
    digits
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| PayError::Stored { what, value: text.chars().take(80).collect() })
}
