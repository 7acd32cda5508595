//! The sub-records by key, and how much room each peer and each network takes.
//!
//! Invariant: the counts are those of what is held. Memory is bounded by [`MAX_HELD`] times
//! [`MAX_ADVERT_BYTES`](crate::limits::MAX_ADVERT_BYTES), 32 MiB.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

use libp2p::kad::RecordKey;

use super::{expiry::is_over, refusal::Refusal};
use crate::{
    id::{ModelHash, NodeId},
    peer::origin::Origin,
};

/// Most sub-records under one key: 4000 providers of a model over its eight keys, and a value of at most 1 MiB.
pub(in crate::peer) const MAX_PER_KEY: usize = 512;

/// Most sub-records under one key from one network: made-up identities are free, networks are not.
pub(super) const MAX_PER_KEY_AND_ORIGIN: usize = 64;

/// Most sub-records from one network, in all keys.
const MAX_PER_ORIGIN: usize = 2048;

/// Most sub-records of one peer, in all keys: 16 models and their lines in the catalogue.
pub(super) const MAX_PER_PEER: usize = 32;

/// Most sub-records in all.
const MAX_HELD: usize = 16 * 1024;

/// Peers that vouch for a model in the catalogue: enough that some of them are always fresh, few enough that hundreds
/// of models fit under its one key.
pub(super) const MAX_WITNESSES: usize = 8;

/// Where a sub-record lies under its key.
pub(super) type Place = (NodeId, ModelHash);

/// All that is held.
#[derive(Debug, Default)]
pub(super) struct Shelves {
    pub(super) keys: HashMap<RecordKey, BTreeMap<Place, Held>>,
    pub(super) per_peer: HashMap<NodeId, usize>,
    pub(super) per_origin: HashMap<Origin, usize>,
    pub(super) held: usize,
}

/// A sub-record.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) seq: u64,
    pub(super) expires_unix_s: u64,
    pub(super) origin: Option<Origin>,
    pub(super) raw: Vec<u8>,
}

impl Shelves {
    pub(super) fn under(&self, key: &RecordKey) -> Option<&BTreeMap<Place, Held>> {
        self.keys.get(key)
    }

    pub(super) fn get(&self, key: &RecordKey, place: &Place) -> Option<&Held> {
        self.under(key)?.get(place)
    }

    /// Puts a sub-record in its place.
    pub(super) fn put(&mut self, key: &RecordKey, place: Place, held: Held) {
        self.remove(key, &place);
        self.held += 1;
        *self.per_peer.entry(place.0).or_default() += 1;
        if let Some(origin) = held.origin {
            *self.per_origin.entry(origin).or_default() += 1;
        }
        self.keys.entry(key.clone()).or_default().insert(place, held);
    }

    fn remove(&mut self, key: &RecordKey, place: &Place) {
        let Some(under) = self.keys.get_mut(key) else { return };
        let Some(held) = under.remove(place) else { return };
        if under.is_empty() {
            self.keys.remove(key);
        }
        self.held -= 1;
        count_down(&mut self.per_peer, &place.0);
        if let Some(origin) = held.origin {
            count_down(&mut self.per_origin, &origin);
        }
    }

    /// Sees to it that there is room in a place nobody has; `witness` when it vouches for its model in the catalogue.
    ///
    /// # Errors
    /// [`Refusal::Full`] when the peer, its network or all together hold as much as they may.
    pub(super) fn make_room(
        &mut self,
        key: &RecordKey,
        place: &Place,
        origin: Option<Origin>,
        witness: bool,
    ) -> Result<(), Refusal> {
        self.check_room(key, place, origin, witness)?;
        if self.under(key).is_some_and(|under| under.len() >= MAX_PER_KEY) {
            let loser = self.crowded_out(key, origin)?;
            self.remove(key, &loser);
        }
        Ok(())
    }

    fn check_room(
        &self,
        key: &RecordKey,
        (peer, model): &Place,
        origin: Option<Origin>,
        witness: bool,
    ) -> Result<(), Refusal> {
        if self.held >= MAX_HELD {
            return Err(Refusal::Full("this node holds as many adverts as it may"));
        }
        if self.per_peer.get(peer).is_some_and(|count| *count >= MAX_PER_PEER) {
            return Err(Refusal::Full("the peer has as many adverts as it may"));
        }
        if let Some(origin) = origin
            && self.per_origin.get(&origin).is_some_and(|count| *count >= MAX_PER_ORIGIN)
        {
            return Err(Refusal::Full("its network has as many adverts here as it may"));
        }
        let Some(under) = self.under(key) else { return Ok(()) };
        let neighbours = || under.values().filter(|held| held.origin == origin).count();
        if origin.is_some() && neighbours() >= MAX_PER_KEY_AND_ORIGIN {
            return Err(Refusal::Full("its network has as many adverts under the key as it may"));
        }
        let witnesses = || under.keys().filter(|(_, other)| other == model).count();
        if witness && witnesses() >= MAX_WITNESSES {
            return Err(Refusal::Full("enough peers vouch for the model"));
        }
        Ok(())
    }

    /// Who makes room under a full key for somebody from `origin`: the one that expires first of those whose network has
    /// most there. A network that has as many already gets no more.
    fn crowded_out(&self, key: &RecordKey, origin: Option<Origin>) -> Result<Place, Refusal> {
        let full = Refusal::Full("the key has as many adverts as it may");
        let Some(under) = self.under(key) else { return Err(full) };
        let mut crowds: HashMap<Option<Origin>, usize> = HashMap::new();
        under.values().for_each(|held| *crowds.entry(held.origin).or_default() += 1);
        let Some((crowd, most)) = crowds.iter().max_by_key(|(_, count)| **count) else { return Err(full) };
        if crowds.get(&origin).copied().unwrap_or_default() + 1 >= *most {
            return Err(full);
        }
        let of_crowd = under.iter().filter(|(_, held)| held.origin == *crowd);
        of_crowd.min_by_key(|(_, held)| held.expires_unix_s).map(|(place, _)| *place).ok_or(full)
    }

    /// Drops what has expired under a key.
    pub(super) fn forget_expired(&mut self, key: &RecordKey, now: u64) {
        let Some(under) = self.keys.get(key) else { return };
        let gone = under.iter().filter(|(_, held)| is_over(held.expires_unix_s, now)).map(|(place, _)| *place);
        for place in gone.collect::<Vec<_>>() {
            self.remove(key, &place);
        }
    }

    /// Drops everything that has expired.
    pub(super) fn sweep(&mut self, now: u64) {
        for key in self.keys.keys().cloned().collect::<Vec<_>>() {
            self.forget_expired(&key, now);
        }
    }
}

fn count_down<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}
