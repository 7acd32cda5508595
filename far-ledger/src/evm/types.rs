//! What a chain is asked and what it answers.

use ethers_core::types::{Address, H256};

use crate::time::UnixMillis;

/// The state that a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The newest block.
    Latest,
    /// The newest block that the chain's consensus calls final.
    Finalized,
    /// The block with this number in the chain as it is now.
    Number(u64),
    /// This very block; a node that has gone over to another chain refuses (EIP-1898).
    Hash(H256),
}

/// A block's header, as far as payouts care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: H256,
    /// Seconds since 1970.
    pub timestamp: u64,
}

impl Block {
    /// When it was made.
    pub fn time(&self) -> UnixMillis {
        let millis = i64::try_from(self.timestamp).ok().and_then(|seconds| seconds.checked_mul(1000));
        millis.and_then(UnixMillis::new).unwrap_or_default()
    }
}

/// A call to simulate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// Who calls.
    pub from: Option<Address>,
    /// The contract; `None` deploys one.
    pub to: Option<Address>,
    /// Selector and arguments.
    pub data: Vec<u8>,
}

/// What became of a mined transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The transaction.
    pub tx_hash: H256,
    /// The block.
    pub block_number: u64,
    /// Its hash.
    pub block_hash: H256,
    /// Whether it did not revert.
    pub succeeded: bool,
    /// Gas used.
    pub gas_used: u64,
    /// The contract it made.
    pub contract: Option<Address>,
    /// What it logged.
    pub logs: Vec<Log>,
}

/// An event of a contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The contract.
    pub address: Address,
    /// Signature and indexed arguments.
    pub topics: Vec<H256>,
    /// The other arguments.
    pub data: Vec<u8>,
    /// The block.
    pub block_number: u64,
    /// Its hash.
    pub block_hash: H256,
    /// The transaction.
    pub tx_hash: H256,
    /// Place in the block.
    pub index: u64,
}

/// Which events to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter {
    /// The contract.
    pub address: Address,
    /// First block.
    pub from: u64,
    /// Last block, included.
    pub to: u64,
    /// For each place, the topic that must stand there; `None` lets any pass.
    pub topics: Vec<Option<H256>>,
}

/// What blocks cost lately, in wei per gas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeeHistory {
    /// Base fee of the next block.
    pub next_base_fee: u128,
    /// Median tips of the last blocks, oldest first.
    pub tips: Vec<u128>,
}
