//! Reads values out of a node's answer; none is believed before its form is checked.

use ethers_core::types::{Address, H256};
use serde_json::Value;

use crate::evm::{error::RpcError, types::Log};

/// An answer to a method, or a part of one.
#[derive(Clone, Copy)]
pub(super) struct Answer<'a> {
    pub(super) method: &'static str,
    pub(super) value: &'a Value,
}

impl<'a> Answer<'a> {
    pub(super) fn new(method: &'static str, value: &'a Value) -> Self {
        Self { method, value }
    }

    /// A member of an object; JSON's null where it is absent.
    pub(super) fn member(self, name: &str) -> Self {
        Self { value: self.value.get(name).unwrap_or(&Value::Null), ..self }
    }

    pub(super) fn is_null(self) -> bool {
        self.value.is_null()
    }

    pub(super) fn bad(self, field: &'static str) -> RpcError {
        RpcError::bad(self.method, field, self.value)
    }

    pub(super) fn items(self, field: &'static str) -> Result<impl Iterator<Item = Self>, RpcError> {
        let items = self.value.as_array().ok_or_else(|| self.bad(field))?;
        Ok(items.iter().map(move |value| Self { value, ..self }))
    }

    pub(super) fn text(self, field: &'static str) -> Result<&'a str, RpcError> {
        self.value.as_str().ok_or_else(|| self.bad(field))
    }

    /// A quantity: `0x` and hexadecimal digits.
    pub(super) fn wide(self, field: &'static str) -> Result<u128, RpcError> {
        let digits = self.text(field)?.strip_prefix("0x").filter(|digits| !digits.starts_with('+'));
        digits.and_then(|digits| u128::from_str_radix(digits, 16).ok()).ok_or_else(|| self.bad(field))
    }

    pub(super) fn quantity(self, field: &'static str) -> Result<u64, RpcError> {
        u64::try_from(self.wide(field)?).map_err(|_| self.bad(field))
    }

    pub(super) fn bytes(self, field: &'static str) -> Result<Vec<u8>, RpcError> {
        let digits = self.text(field)?.strip_prefix("0x");
        digits.and_then(|digits| hex::decode(digits).ok()).ok_or_else(|| self.bad(field))
    }

    pub(super) fn hash(self, field: &'static str) -> Result<H256, RpcError> {
        let bytes: [u8; 32] = self.bytes(field)?.try_into().map_err(|_| self.bad(field))?;
        Ok(H256(bytes))
    }

    pub(super) fn address(self, field: &'static str) -> Result<Address, RpcError> {
        let bytes: [u8; 20] = self.bytes(field)?.try_into().map_err(|_| self.bad(field))?;
        Ok(Address::from(bytes))
    }

    pub(super) fn log(self) -> Result<Log, RpcError> {
        let topics = self.member("topics").items("topics")?;
        Ok(Log {
            address: self.member("address").address("address")?,
            topics: topics.map(|topic| topic.hash("topic")).collect::<Result<_, _>>()?,
            data: self.member("data").bytes("data")?,
            block_number: self.member("blockNumber").quantity("blockNumber")?,
            block_hash: self.member("blockHash").hash("blockHash")?,
            tx_hash: self.member("transactionHash").hash("transactionHash")?,
            index: self.member("logIndex").quantity("logIndex")?,
        })
    }
}
