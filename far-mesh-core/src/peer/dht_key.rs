//! Under which DHT keys adverts lie.
//!
//! One key for a model and an eighth of its peers: a model with many providers is spread over more nodes than hold one
//! key, and a whole table is eight requests that run side by side. One more key, the catalogue, tells which models there are.

use libp2p::kad::RecordKey;
use sha2::{Digest as _, Sha256};

use crate::id::{ModelHash, NodeId};

/// Keys of a model.
pub(super) const SLICES: u8 = 8;

/// The key for the adverts of `model` by the peers of a slice.
pub(super) fn of_slice(model: ModelHash, slice: u8) -> RecordKey {
    let hash = Sha256::new().chain_update(b"far-mesh model 1\0").chain_update(model.0).chain_update([slice]).finalize();
    RecordKey::new(&hash.as_slice())
}

/// The key under which `peer` advertises `model`.
pub(super) fn of_peer(model: ModelHash, peer: &NodeId) -> RecordKey {
    // The end of a node id is the end of its public key, as good as random.
    of_slice(model, peer.to_bytes().last().copied().unwrap_or_default() % SLICES)
}

/// The key that lists models.
pub(super) fn catalogue() -> RecordKey {
    RecordKey::new(&Sha256::digest(b"far-mesh catalogue 1\0").as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_in_one_slice_of_each_model() {
        let (peer, models) = (NodeId::random(), [ModelHash([1; 32]), ModelHash([2; 32])]);
        let key = of_peer(models[0], &peer);
        assert_eq!((0..SLICES).filter(|slice| of_slice(models[0], *slice) == key).count(), 1);
        assert!(
            (0..SLICES).all(|slice| of_slice(models[1], slice) != key && of_slice(models[1], slice) != catalogue())
        );
    }
}
