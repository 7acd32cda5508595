//! What an operator has to know.

use ethers_core::types::{Address, H256};

/// What keeps payouts from going on until somebody does something, or until the chain changes.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Alert {
    /// Somebody pays other items under our names.
    #[error(
        "batch {batch:?} is halted: the contract paid it with other items (digest {found:?}, ours {expected:?}); another ledger \
         uses this contract, or this ledger is an old copy: find out before paying on"
    )]
    Halted {
        /// The batch.
        batch: H256,
        /// Digest in the contract.
        found: H256,
        /// Digest of our items.
        expected: H256,
    },
    /// The payment would revert: the treasury, its allowance or the payer's role.
    #[error(
        "batch {batch:?} cannot be paid now: {reason}; see that the treasury holds enough, has approved the contract, and that \
         {payer:?} is a payer"
    )]
    WouldRevert {
        /// The batch.
        batch: H256,
        /// Who would pay.
        payer: Address,
        /// What the node said.
        reason: String,
    },
    /// The payment takes more gas than a transaction may have, so it is not signed.
    #[error(
        "batch {batch:?} takes {} gas and a transaction may have {most} (EIP-7825): it is not signed. Send a little FAR \
         to those of its wallets that hold none: each takes about 17000 gas less then, and the batch is paid as soon as it \
         fits. Lower payout_batch_items for the weeks to come",
        needed.map_or_else(|| "more".to_owned(), |gas| gas.to_string())
    )]
    TooMuchGas {
        /// The batch.
        batch: H256,
        /// What it takes by the node's estimate; `None` where the node estimates no more than a transaction may have.
        needed: Option<u64>,
        /// Most gas of a transaction.
        most: u64,
    },
    /// The fees reached their caps.
    #[error(
        "transaction {hash:?} waits: the chain asks for more than max_fee_gwei or max_tip_gwei allow; raise them, or wait"
    )]
    FeeCap {
        /// The newest transaction on that nonce.
        hash: H256,
    },
    /// Only the key of another payer can help.
    #[error("nonce {nonce} of payer {sender:?} is stuck, and this payer has another key: run that payer")]
    OtherKey {
        /// Whose nonce.
        sender: Address,
        /// The nonce.
        nonce: u64,
    },
    /// A node did not take a transaction. It is sent again.
    #[error("transaction {hash:?} was not taken: {reason}")]
    NotSent {
        /// The transaction.
        hash: H256,
        /// What the node said.
        reason: String,
    },
}
