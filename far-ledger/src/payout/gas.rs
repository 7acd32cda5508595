//! What paying a batch takes, and whether it can be paid.

use ethers_core::{types::H256, utils::keccak256};

use crate::{
    evm::{Call, RpcError, payout as calls},
    payout::{
        error::PayError,
        item::{self, Item},
        payer::Payer,
    },
};

/// Most gas of a transaction (EIP-7825).
pub(super) const MAX_GAS: u64 = 1 << 24;

/// Room above the estimate, beside a quarter of it: a recipient that spends its last FAR meanwhile costs four times as much.
const MARGIN: u64 = 60_000;

/// Why a batch cannot be paid at the moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CannotPay {
    /// The payment would revert.
    #[error("{0}")]
    Reverts(String),
    /// The payment takes more gas than a transaction may have.
    #[error(
        "it takes {} gas and a transaction may have {most} (EIP-7825)",
        needed.map_or_else(|| "more".to_owned(), |gas| gas.to_string()),
        most = MAX_GAS
    )]
    TooMuchGas {
        /// What it takes by the node's estimate; `None` where the node estimates no more than a transaction may have.
        needed: Option<u64>,
    },
}

impl Payer {
    /// The gas that paying these items takes now, by the node's estimate.
    pub(super) async fn estimate(&self, batch: H256, items: &[Item]) -> Result<Result<u64, CannotPay>, PayError> {
        let (from, to) = (Some(self.address()), Some(self.config().contract.address));
        match self.chain().estimate_gas(&Call { from, to, data: calls::pay(batch, &item::pack(items)) }).await {
            Ok(needed) if needed > MAX_GAS => Ok(Err(CannotPay::TooMuchGas { needed: Some(needed) })),
            Ok(needed) => Ok(Ok(needed)),
            // The node tried with no more than a transaction may have.
            Err(error) if short_of_gas(&error) => Ok(Err(CannotPay::TooMuchGas { needed: None })),
            Err(error @ RpcError::Refused { .. }) => Ok(Err(CannotPay::Reverts(error.to_string()))),
            Err(error) => Err(error.into()),
        }
    }
}

/// Gas of a transaction that takes `needed`, with room above it up to the cap.
pub(super) fn limit(needed: u64) -> u64 {
    needed.saturating_add(needed / 4).saturating_add(MARGIN).min(MAX_GAS)
}

/// Whether the contract reverted for too little gas.
fn short_of_gas(error: &RpcError) -> bool {
    let RpcError::Refused { data: Some(data), .. } = error else { return false };
    data.starts_with(&keccak256("TooLittleGas(uint256)")[..4])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_above_the_estimate_ends_at_the_cap() {
        assert_eq!(limit(100_000), 185_000);
        assert_eq!(limit(14_000_000), MAX_GAS);
        assert_eq!((limit(MAX_GAS), limit(u64::MAX)), (MAX_GAS, MAX_GAS));
    }

    #[test]
    fn too_little_gas_is_told_from_other_reverts() {
        let refused = |data: Option<Vec<u8>>| RpcError::Refused {
            method: "eth_estimateGas",
            code: 3,
            message: "execution reverted".to_owned(),
            data,
        };
        let revert = |error: &str| keccak256(error)[..4].iter().copied().chain([0; 32]).collect::<Vec<u8>>();
        assert!(short_of_gas(&refused(Some(revert("TooLittleGas(uint256)")))));
        assert!(!short_of_gas(&refused(Some(revert("BadItems(uint256)")))));
        assert!(!short_of_gas(&refused(None)));
    }

    #[test]
    fn too_much_gas_is_told_with_both_numbers() {
        let known = CannotPay::TooMuchGas { needed: Some(17_400_000) }.to_string();
        assert!(known.contains("17400000") && known.contains("16777216"), "{known}");
        assert!(CannotPay::TooMuchGas { needed: None }.to_string().contains("takes more gas"));
    }
}
