//! Who serves what: reading the DHT.
//!
//! Nothing that is read is believed: every node that answers may be a liar, so each sub-record's signature, key and
//! expiry are checked here again, and the newest word of each peer counts, whoever handed it over.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use libp2p::kad::RecordKey;
use tokio::{sync::mpsc, time::Instant};

use super::{
    advert::{Advert, AdvertError, Claim, Sealed, ShardOffer, split_first},
    bootstrap::BootstrapFailure,
    command::Command,
    dht_key,
    node::{Node, list},
    store::{MAX_PER_KEY, alive, system_clock},
};
use crate::id::{ModelHash, NodeId};

/// How long a look-up may take in all; what was found until then counts.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(3);

/// Values that wait to be merged: more than nodes that hold a key.
const FOUND_QUEUE: usize = 64;

/// Why nothing can be said about who serves what.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DiscoveryError {
    /// No other node is connected.
    #[error("no node of the mesh is connected, so nothing is known about who serves what{}", list(failures))]
    Isolated {
        /// What became of the bootstrap addresses.
        failures: Vec<BootstrapFailure>,
    },
    /// The node has shut down.
    #[error("the node has shut down")]
    Closed,
}

/// Why an offer was not announced.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AnnounceError {
    /// The offer is not acceptable to anybody.
    #[error(transparent)]
    Advert(#[from] AdvertError),
    /// The node has shut down.
    #[error("the node has shut down")]
    Closed,
}

/// A model somebody serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelListing {
    /// Its hash.
    pub model: ModelHash,
    /// Its name, as most of those who serve it say.
    pub name: String,
    /// Its decoder layers.
    pub layers: u32,
}

impl Node {
    /// Offers a shard from now on: announced at once and again before it expires, until it is withdrawn, in place of what
    /// was offered of its model before. Says how many nodes hold the advert; 0 when none is known yet: it goes out as soon
    /// as one is.
    ///
    /// Once others hold it, [`Node::adverts`] of every node in reach of them finds it. Cancel-safe: a dropped future may
    /// have announced.
    ///
    /// # Errors
    /// [`AnnounceError::Advert`] when a field is out of range, [`AnnounceError::Closed`] after shutdown.
    pub async fn announce(&self, offer: ShardOffer) -> Result<usize, AnnounceError> {
        let (reply, accepted) = tokio::sync::oneshot::channel();
        let (placed, holders) = tokio::sync::oneshot::channel();
        let command = Command::Announce { offer: Box::new(offer), reply, placed };
        self.send(command).await.ok_or(AnnounceError::Closed)?;
        accepted.await.map_err(|_| AnnounceError::Closed)??;
        holders.await.map_err(|_| AnnounceError::Closed)
    }

    /// Stops offering every shard and says so, so that tables drop them at once. Returns how many nodes were told.
    pub async fn withdraw(&self) -> usize {
        self.withdraw_some(None).await
    }

    /// Stops offering the shard of one model.
    pub async fn withdraw_model(&self, model: ModelHash) -> usize {
        self.withdraw_some(Some(model)).await
    }

    async fn withdraw_some(&self, model: Option<ModelHash>) -> usize {
        let (told, holders) = tokio::sync::oneshot::channel();
        match self.send(Command::Withdraw { model, told }).await {
            Some(()) => holders.await.unwrap_or(0),
            None => 0,
        }
    }

    /// The adverts of a model that are valid now, in the order of their spans. No advert is no error: nobody may serve it.
    ///
    /// # Errors
    /// [`DiscoveryError::Isolated`] when nobody could be asked, [`DiscoveryError::Closed`] after shutdown.
    pub async fn adverts(&self, model: ModelHash) -> Result<Vec<Advert>, DiscoveryError> {
        let keys = (0..dht_key::SLICES).map(|slice| dht_key::of_slice(model, slice));
        let slices = futures::future::try_join_all(keys.map(|key| self.find(key))).await?;
        let mut adverts = slices.into_iter().flatten().filter(|advert| advert.shard.model == model).collect::<Vec<_>>();
        adverts.sort_by_key(|advert| (advert.shard.span, advert.peer));
        self.unless_isolated(adverts)
    }

    /// The models somebody serves, in the order of their names.
    ///
    /// # Errors
    /// As [`Node::adverts`].
    pub async fn models(&self) -> Result<Vec<ModelListing>, DiscoveryError> {
        let mut votes: BTreeMap<ModelHash, BTreeMap<(String, u32), usize>> = BTreeMap::new();
        for advert in self.find(dht_key::catalogue()).await? {
            let words = votes.entry(advert.shard.model).or_default();
            *words.entry((advert.shard.model_name, advert.shard.layers)).or_default() += 1;
        }
        let listing = |(model, words): (ModelHash, BTreeMap<(String, u32), usize>)| {
            let ((name, layers), _) = words.into_iter().max_by_key(|(_, votes)| *votes)?;
            Some(ModelListing { model, name, layers })
        };
        let mut models = votes.into_iter().filter_map(listing).collect::<Vec<_>>();
        models.sort_by(|a, b| (&a.name, a.model).cmp(&(&b.name, b.model)));
        self.unless_isolated(models)
    }

    fn unless_isolated<T>(&self, found: Vec<T>) -> Result<Vec<T>, DiscoveryError> {
        if found.is_empty() && self.expects_others() && self.connected_peers().is_empty() {
            return Err(DiscoveryError::Isolated { failures: self.bootstrap_failures() });
        }
        Ok(found)
    }

    async fn find(&self, key: RecordKey) -> Result<Vec<Advert>, DiscoveryError> {
        let (found, mut values) = mpsc::channel(FOUND_QUEUE);
        self.send(Command::Find { key: key.clone(), found }).await.ok_or(DiscoveryError::Closed)?;
        let (clock, mut merge) = (system_clock(), Merge::default());
        let until = Instant::now() + LOOKUP_DEADLINE;
        while let Ok(Some(value)) = tokio::time::timeout_at(until, values.recv()).await {
            merge.add(&key, &value, clock());
        }
        Ok(merge.adverts())
    }
}

/// The newest word of each peer on each model, of all that were read.
#[derive(Debug, Default)]
struct Merge {
    newest: HashMap<(NodeId, ModelHash), Sealed>,
    /// What was judged already: most nodes hand over the same bytes, and signatures cost 50 us each.
    seen: HashSet<Vec<u8>>,
}

impl Merge {
    fn add(&mut self, key: &RecordKey, value: &[u8], now: u64) {
        let mut rest = value;
        // Nobody holds more under a key; more is a liar that wants to keep us busy.
        for _ in 0..MAX_PER_KEY {
            if rest.is_empty() {
                return;
            }
            let Ok((first, after)) = split_first(rest) else { return };
            rest = after;
            if self.seen.insert(first.to_vec())
                && let Err(error) = self.add_one(key, first, now)
            {
                tracing::debug!(%error, "advert of another node is not good");
                // Who holds an advert has checked its signature: one that is wrong is a lie, and checking hundreds more
                // from the same liar would take longer than the time between two look-ups.
                if error == AdvertError::Signature {
                    return;
                }
            }
        }
    }

    fn add_one(&mut self, key: &RecordKey, bytes: &[u8], now: u64) -> Result<(), AdvertError> {
        let sealed = Sealed::open(key.as_ref(), bytes)?;
        let model = sealed.claim.model();
        let own_key = *key == dht_key::catalogue() || *key == dht_key::of_peer(model, &sealed.peer);
        if !own_key || alive(sealed.expires_unix_s, now).is_err() {
            return Ok(());
        }
        let place = (sealed.peer, model);
        if self.newest.get(&place).is_none_or(|held| held.seq < sealed.seq) {
            self.newest.insert(place, sealed);
        }
        Ok(())
    }

    fn adverts(self) -> Vec<Advert> {
        let advert = |sealed: Sealed| match sealed.claim {
            Claim::Serves(shard) => {
                let Sealed { peer, seq, expires_unix_s, .. } = sealed;
                Some(Advert { peer, seq, expires_unix_s, shard: *shard })
            }
            Claim::Gone(_) => None,
        };
        self.newest.into_values().filter_map(advert).collect()
    }
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
        let mut merge = Merge::default();
        merge.add(&slice, &[&good[..], &forged, &older, &expired, &immortal, &elsewhere, b"junk"].concat(), NOW);
        merge.add(&slice, &older, NOW);
        let adverts = merge.adverts();
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
        let mut merge = Merge::default();
        merge.add(&catalogue, &value, NOW);
        assert_eq!(merge.seen.len(), 1, "of {MAX_PER_KEY}");
        merge.add(&catalogue, &good, NOW);
        assert_eq!(merge.adverts().len(), 1);
    }

    #[test]
    fn a_withdrawal_on_one_node_hides_the_advert_that_another_still_has() {
        let key = Keypair::generate_ed25519();
        let model = offer((0, 1)).model;
        let slice = dht_key::of_peer(model, &key.public().to_peer_id());
        let mut merge = Merge::default();
        merge.add(&slice, &sealed(&key, &slice, 2, NOW + 60, Claim::Gone(model)), NOW);
        merge.add(&slice, &sealed(&key, &slice, 1, NOW + 60, serves(0)), NOW);
        assert!(merge.adverts().is_empty());
    }
}
