//! What may go wrong in a payout. Whatever it is, nothing is paid twice: the next tick starts from what is stored.

use ethers_core::types::Address;

use crate::{
    evm::{RpcError, SignError},
    payout::epoch::Epoch,
    store::{BackendError, PostError, ReadError, database::Repeatable},
};

/// Why a payout did not go on. The next tick tries again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PayError {
    /// The node serves another chain.
    #[error(
        "the node serves chain {found}, payouts are set up for chain {expected}: nothing was signed or sent; set rpc_url or chain_id right"
    )]
    OtherChain {
        /// What the node said.
        found: u64,
        /// What was set up.
        expected: u64,
    },
    /// There is no payout contract at the address.
    #[error(
        "there is no payout contract at {contract:?} on chain {chain_id}: deploy it with `far-mesh payments deploy`, or set its address right"
    )]
    NoContract {
        /// The address.
        contract: Address,
        /// The chain.
        chain_id: u64,
    },
    /// The ledger's open batches are for another contract.
    #[error(
        "epoch {epoch} was closed for contract {planned} on chain {planned_chain}, and this payer pays from another: \
         run one with that contract until the epoch is settled"
    )]
    OtherContract {
        /// The epoch.
        epoch: Epoch,
        /// The contract that it was planned for.
        planned: String,
        /// Its chain.
        planned_chain: u64,
    },
    /// The contract has paid a week that this ledger did not close.
    #[error(
        "contract {contract:?} has paid batch {batch} of epoch {epoch}, of which this ledger knows nothing: it is older than \
         what was paid from it, and paying on would pay again; restore a copy from after that payment"
    )]
    Behind {
        /// The contract.
        contract: Address,
        /// The epoch.
        epoch: Epoch,
        /// The place of the batch.
        batch: u32,
    },
    /// More was earned than an amount can hold.
    #[error("what batch {batch} pays is more than an amount can hold: the epoch was not closed")]
    TooMuch {
        /// The place of the batch.
        batch: u32,
    },
    /// A stored value is not what was stored.
    #[error("the ledger holds {what} {value}, which no payer writes: restore the last backup before paying on")]
    Stored {
        /// What it is.
        what: &'static str,
        /// The value.
        value: String,
    },
    /// The node failed.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// The signer failed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The journal does not agree with what a settled batch paid.
    #[error("a batch is paid on the chain and the journal does not take it: {0}; run the audit")]
    Journal(#[from] PostError),
    /// What is stored cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The database failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl From<sqlx::Error> for PayError {
    fn from(error: sqlx::Error) -> Self {
        Self::Backend(error.into())
    }
}

impl Repeatable for PayError {
    fn backend(&self) -> Option<&BackendError> {
        match self {
            Self::Backend(error) | Self::Read(ReadError::Backend(error)) => Some(error),
            Self::Journal(error) => error.backend(),
            _ => None,
        }
    }
}
