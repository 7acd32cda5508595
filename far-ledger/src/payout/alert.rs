//! What an operator has to know.

use std::time::Duration;

use ethers_core::types::{Address, H256};

use crate::payout::{epoch::Epoch, gas::CannotPay};

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
        "batch {batch:?} is not signed: {why}. Send a little FAR to those of its wallets that hold none: each takes about \
         17000 gas less then, and the batch is paid as soon as it fits. Lower payout_batch_items for the weeks to come"
    )]
    TooMuchGas {
        /// The batch.
        batch: H256,
        /// [`CannotPay::TooMuchGas`].
        why: CannotPay,
    },
    /// The week is over by this machine's clock, and not by the chain's.
    #[error(
        "epoch {epoch} is over by this machine's clock and not by the chain's, so it is not closed: the newest block is {} minutes \
         older than what this machine's clock says; set the clock right, or see that the node follows its chain and that the \
         chain makes blocks",
        ahead.as_secs() / 60
    )]
    FastClock {
        /// The epoch.
        epoch: Epoch,
        /// How much older the newest block is.
        ahead: Duration,
    },
    /// This machine's clock is behind the chain's.
    #[error(
        "this machine's clock is {} minutes behind the newest block: weeks are closed that much too late; set the clock right",
        behind.as_secs() / 60
    )]
    SlowClock {
        /// How much.
        behind: Duration,
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

impl Alert {
    /// That a batch cannot be paid by `payer`.
    pub(super) fn of_batch(batch: H256, payer: Address, why: CannotPay) -> Self {
        match why {
            CannotPay::Reverts(reason) => Self::WouldRevert { batch, payer, reason },
            CannotPay::TooMuchGas { .. } => Self::TooMuchGas { batch, why },
        }
    }
}
