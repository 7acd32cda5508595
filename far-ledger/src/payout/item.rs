//! Items, batches and their names, as the contract sees them.

use ethers_core::{
    types::{Address, H256},
    utils::keccak256,
};

use crate::{amount::Amount, payout::epoch::Epoch, wallet::WalletAddress};

/// Most items of a batch, which the contract holds too.
pub const MAX_ITEMS: usize = 500;

/// Units of the token (10^-18 FAR) in a nano-FAR.
const UNITS_PER_NANO: u128 = 1_000_000_000;

/// Bytes of an item: address (20), amount (12).
pub(crate) const ITEM_BYTES: usize = 32;

/// What one wallet gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// Who.
    pub wallet: WalletAddress,
    /// How much.
    pub amount: Amount,
}

/// Where batches are paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayoutContract {
    /// The chain.
    pub chain_id: u64,
    /// The payout contract on it.
    pub address: Address,
}

impl Item {
    /// The amount in the token's units. The greatest [`Amount`] takes 93 bits, of 96.
    pub fn units(&self) -> u128 {
        units(self.amount)
    }
}

/// An amount in the token's units.
pub fn units(amount: Amount) -> u128 {
    u128::from(amount.nano().unsigned_abs()).saturating_mul(UNITS_PER_NANO)
}

/// Items as `FarPayout.pay` takes them: recipient (20 bytes) and amount in the token's units (12 bytes, big endian).
pub fn pack(items: &[Item]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(items.len().saturating_mul(ITEM_BYTES));
    for item in items {
        packed.extend_from_slice(item.wallet.as_bytes());
        packed.extend_from_slice(&item.units().to_be_bytes()[4..]);
    }
    packed
}

/// keccak256 of packed items: what the contract stores for a batch that it paid.
pub fn digest(items: &[Item]) -> H256 {
    H256(keccak256(pack(items)))
}

/// The contract's name of a batch. It follows from where and when it is paid alone, so two ledgers that pay from one contract
/// name their batches alike and the contract pays only one of them.
pub fn batch_id(contract: &PayoutContract, epoch: Epoch, seq: u32) -> H256 {
    let mut name = b"far-mesh/payout/1".to_vec();
    name.extend_from_slice(&contract.chain_id.to_be_bytes());
    name.extend_from_slice(contract.address.as_bytes());
    name.extend_from_slice(&epoch.number().to_be_bytes());
    name.extend_from_slice(&seq.to_be_bytes());
    H256(keccak256(name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_item_is_address_and_amount() {
        let wallet: WalletAddress = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed".parse().unwrap();
        let items = [Item { wallet, amount: "1.5".parse().unwrap() }];
        assert_eq!(hex::encode(pack(&items)), "5aaeb6053f3e94c9b9a09f33669435e7ef1beaed0000000014d1120d7b160000");
        let greatest = Item { wallet, amount: Amount::MAX };
        assert_eq!(greatest.units(), 9_223_372_036_854_775_807_000_000_000);
        assert_eq!(pack(&[greatest])[20..], greatest.units().to_be_bytes()[4..]);
    }

    #[test]
    fn batches_of_other_places_and_times_have_other_names() {
        let contract = PayoutContract { chain_id: 1, address: Address::repeat_byte(1) };
        let epoch = Epoch::new(7);
        let name = batch_id(&contract, epoch, 0);
        assert_eq!(name, batch_id(&contract, epoch, 0));
        for other in [
            batch_id(&contract, epoch, 1),
            batch_id(&contract, Epoch::new(8), 0),
            batch_id(&PayoutContract { chain_id: 2, ..contract }, epoch, 0),
            batch_id(&PayoutContract { address: Address::repeat_byte(2), ..contract }, epoch, 0),
        ] {
            assert_ne!(name, other);
        }
    }

    proptest! {
        #[test]
        fn packed_items_are_read_back(items in proptest::collection::vec((any::<[u8; 20]>(), 0..=i64::MAX), 1..20)) {
            let items: Vec<Item> = items
                .into_iter()
                .filter_map(|(wallet, nano)| {
                    Some(Item { wallet: WalletAddress::from_bytes(wallet).ok()?, amount: Amount::from_nano(nano).ok()? })
                })
                .collect();
            let packed = pack(&items);
            prop_assert_eq!(packed.len(), items.len() * ITEM_BYTES);
            for (bytes, item) in packed.chunks(ITEM_BYTES).zip(&items) {
                prop_assert_eq!(&bytes[..20], item.wallet.as_bytes());
                let mut amount = [0; 16];
                amount[4..].copy_from_slice(&bytes[20..]);
                prop_assert_eq!(u128::from_be_bytes(amount), item.units());
            }
        }
    }
}
