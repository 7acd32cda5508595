//! What is read from the DHT under a key, put together.
//!
//! Nothing that is read is believed: every node that answers may be a liar, so each sub-record's signature, key and
//! expiry are checked here again, and the newest word of each peer counts, whoever handed it over.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
};

use libp2p::kad::RecordKey;

use super::{
    advert::{Advert, AdvertError, Claim, Sealed, split_first},
    dht_key,
    store::{MAX_PER_KEY, alive},
};
use crate::id::{ModelHash, NodeId};

/// Keys that are remembered: those of fifteen models, and the catalogue.
const MAX_KEYS: usize = 128;

/// The newest word of each peer on each model, of all that were read under a key.
#[derive(Debug)]
pub(super) struct Merge {
    key: RecordKey,
    newest: Newest,
    /// What was judged already: most nodes hand over the same bytes, and signatures cost 50 us each.
    seen: HashSet<Vec<u8>>,
}

type Newest = HashMap<(NodeId, ModelHash), Sealed>;

impl Merge {
    pub(super) fn of(key: RecordKey) -> Self {
        Self { key, newest: Newest::new(), seen: HashSet::new() }
    }

    /// Takes in what a node holds; says whether somebody is in it of whom nothing was known.
    pub(super) fn add(&mut self, value: &[u8], now: u64) -> bool {
        let (mut rest, before) = (value, self.newest.len());
        // Nobody holds more under a key; more is a liar that wants to keep us busy.
        for _ in 0..MAX_PER_KEY {
            let Ok((first, after)) = split_first(rest) else { break };
            rest = after;
            if self.seen.insert(first.to_vec())
                && let Err(error) = self.add_one(first, now)
            {
                tracing::debug!(%error, "advert of another node is not good");
                // Who holds an advert has checked its signature: one that is wrong is a lie, and checking hundreds more
                // from the same liar would take longer than the time between two look-ups.
                if error == AdvertError::Signature {
                    break;
                }
            }
        }
        self.newest.len() > before
    }

    fn add_one(&mut self, bytes: &[u8], now: u64) -> Result<(), AdvertError> {
        let sealed = Sealed::open(self.key.as_ref(), bytes)?;
        let model = sealed.claim.model();
        let own_key = self.key == dht_key::catalogue() || self.key == dht_key::of_peer(model, &sealed.peer);
        if own_key && alive(sealed.expires_unix_s, now).is_ok() {
            keep(&mut self.newest, sealed);
        }
        Ok(())
    }
}

/// What earlier look-ups read and has not expired: a look-up hears from some of those who hold a key, while a mesh grows
/// not always from those who hold most.
#[derive(Debug, Default)]
pub(super) struct Recall {
    keys: Mutex<HashMap<RecordKey, Newest>>,
}

impl Recall {
    /// The adverts of a look-up and those that are remembered under its key; where the look-up heard nothing, nothing is.
    pub(super) fn complete(&self, merge: Merge, now: u64) -> Vec<Advert> {
        let Merge { key, newest, .. } = merge;
        if newest.is_empty() {
            return Vec::new();
        }
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= MAX_KEYS && !keys.contains_key(&key) {
            keys.clear();
        }
        let mut known = keys.remove(&key).unwrap_or_default();
        known.retain(|_, sealed| alive(sealed.expires_unix_s, now).is_ok());
        newest.into_values().for_each(|sealed| keep(&mut known, sealed));
        let adverts = known.values().filter_map(advert).collect();
        // Nobody holds more under a key: a liar made them up, and may not have them kept.
        if known.len() <= 2 * MAX_PER_KEY {
            keys.insert(key, known);
        }
        adverts
    }
}

fn keep(newest: &mut Newest, sealed: Sealed) {
    let place = (sealed.peer, sealed.claim.model());
    if newest.get(&place).is_none_or(|held| held.seq < sealed.seq) {
        newest.insert(place, sealed);
    }
}

fn advert(sealed: &Sealed) -> Option<Advert> {
    let Sealed { peer, seq, expires_unix_s, claim } = sealed;
    let Claim::Serves(shard) = claim else { return None };
    Some(Advert { peer: *peer, seq: *seq, expires_unix_s: *expires_unix_s, shard: shard.as_ref().clone() })
}

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;

    use super::*;
    use crate::peer::advert::tests::offer;

    const NOW: u64 = 1_000_000;

    fn sealed(key: &Keypair, dht_key: &RecordKey, seq: u64, expires: u64, claim: Claim) -> Vec<u8> {
        Sealed::seal(key, dht_key.as_ref(), seq, expires, &claim).unwrap()
    }

    /// What one look-up finds that knows nothing yet.
    fn adverts(merge: Merge) -> Vec<Advert> {
        Recall::default().complete(merge, NOW)
    }

    fn serves(start: u32) -> Claim {
        Claim::Serves(Box::new(offer((start, 30))))
    }

    #[test]
    fn a_reader_believes_no_holder() {
        let key = Keypair::generate_ed25519();
        let slice = dht_key::of_peer(offer((0, 1)).model, &key.public().to_peer_id());
        let good = sealed(&key, &slice, 5, NOW + 60, serves(5));
        let mut forged = sealed(&key, &slice, 9, NOW + 60, serves(9));
        let last = forged.len() - 1;
        forged[last] ^= 1;
        let older = sealed(&key, &slice, 4, NOW + 60, serves(4));
        let expired = sealed(&key, &slice, 8, NOW - 100, serves(8));
        let immortal = sealed(&key, &slice, 8, u64::MAX, serves(8));
        let elsewhere = sealed(&key, &dht_key::catalogue(), 8, NOW + 60, serves(8));
        let mut merge = Merge::of(slice);
        merge.add(&[&good[..], &forged, &older, &expired, &immortal, &elsewhere, b"junk"].concat(), NOW);
        merge.add(&older, NOW);
        let adverts = adverts(merge);
        assert_eq!(adverts.len(), 1);
        assert_eq!((adverts[0].seq, adverts[0].shard.span.start()), (5, 5));
    }

    #[test]
    fn a_liar_has_one_signature_checked() {
        let (honest, liar) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
        let catalogue = dht_key::catalogue();
        let good = sealed(&honest, &catalogue, 1, NOW + 60, serves(0));
        let forged = |seq| {
            let mut bytes = sealed(&liar, &catalogue, seq, NOW + 60, serves(0));
            *bytes.last_mut().unwrap() ^= 1;
            bytes
        };
        let value = (0..MAX_PER_KEY as u64 - 1).flat_map(forged).collect::<Vec<_>>();
        let mut merge = Merge::of(catalogue);
        merge.add(&value, NOW);
        assert_eq!(merge.seen.len(), 1, "of {MAX_PER_KEY}");
        merge.add(&good, NOW);
        assert_eq!(adverts(merge).len(), 1);
    }

    #[test]
    fn a_withdrawal_on_one_node_hides_the_advert_that_another_still_has() {
        let key = Keypair::generate_ed25519();
        let model = offer((0, 1)).model;
        let slice = dht_key::of_peer(model, &key.public().to_peer_id());
        let mut merge = Merge::of(slice.clone());
        merge.add(&sealed(&key, &slice, 2, NOW + 60, Claim::Gone(model)), NOW);
        merge.add(&sealed(&key, &slice, 1, NOW + 60, serves(0)), NOW);
        assert!(adverts(merge).is_empty());
    }

    #[test]
    fn a_look_up_is_completed_by_what_was_read_before_until_that_expires_or_is_taken_back() {
        let model = offer((0, 1)).model;
        let slice = dht_key::of_slice(model, 3);
        let in_slice = || {
            let keys = std::iter::repeat_with(Keypair::generate_ed25519);
            keys.into_iter().find(|key| dht_key::of_peer(model, &key.public().to_peer_id()) == slice).unwrap()
        };
        let (a, b, c) = (in_slice(), in_slice(), in_slice());
        let recall = Recall::default();
        let look = |values: &[Vec<u8>], now| {
            let mut merge = Merge::of(slice.clone());
            merge.add(&values.concat(), now);
            let found = recall.complete(merge, now);
            let mut found = found.into_iter().map(|advert| advert.peer).collect::<Vec<_>>();
            found.sort_unstable();
            found
        };
        let ids = |keys: &[&Keypair]| {
            let mut ids = keys.iter().map(|key| key.public().to_peer_id()).collect::<Vec<_>>();
            ids.sort_unstable();
            ids
        };
        let word = |key, seq, expires, claim| sealed(key, &slice, seq, expires, claim);
        assert_eq!(look(&[word(&a, 1, NOW + 60, serves(0)), word(&b, 1, NOW + 99, serves(0))], NOW), ids(&[&a, &b]));
        assert_eq!(look(&[word(&c, 1, NOW + 99, serves(0))], NOW), ids(&[&a, &b, &c]));
        assert_eq!(look(&[], NOW), [], "nobody answered");
        assert_eq!(look(&[word(&b, 2, NOW + 99, Claim::Gone(model))], NOW), ids(&[&a, &c]));
        assert_eq!(look(&[word(&b, 1, NOW + 99, serves(0))], NOW), ids(&[&a, &c]), "it was taken back");
        assert_eq!(look(&[word(&c, 1, NOW + 99, serves(0))], NOW + 60 + 30), ids(&[&c]), "a has expired");
    }
}
