//! What a node keeps for the DHT: for each key the newest word of every peer, merged.
//!
//! Kademlia's own memory store keeps one value a key, so the last provider to announce would hide all others. Here a put
//! adds one signed sub-record; a get returns all that live, one after the other. Nothing is replicated again on its own:
//! the owner announces again before it expires.
//!
//! Invariant: every sub-record held was checked: signature, key, expiry. Memory is bounded by [`MAX_HELD`] times
//! [`MAX_ADVERT_BYTES`](crate::limits::MAX_ADVERT_BYTES), 32 MiB.

use std::{
    borrow::Cow,
    cell::Cell,
    collections::{BTreeMap, HashMap},
    fmt, iter,
    sync::Arc,
    time::{Duration, Instant},
};

use libp2p::kad::{self, ProviderRecord, Record, RecordKey, store::RecordStore};

use super::{
    advert::{AdvertError, Claim, Sealed},
    dht_key,
    origin::Origin,
    quota::{Pace, Verdict},
};
use crate::id::{ModelHash, NodeId};

/// Most sub-records under one key: 4000 providers of a model over its eight keys, and a value of at most 1 MiB.
pub(super) const MAX_PER_KEY: usize = 512;

/// Most sub-records under one key from one network: made-up identities are free, networks are not.
const MAX_PER_KEY_AND_ORIGIN: usize = 64;

/// Most sub-records from one network, in all keys.
const MAX_PER_ORIGIN: usize = 2048;

/// Bytes a second that are read from here in the long run. A node asks for a model's eight keys each few seconds; Kademlia
/// does not tell who asks, so this holds for all together.
const READ_RATE: u64 = 64 << 20;

/// Bytes that may be read at once: a hundred whole tables of a large mesh.
const READ_BURST: u64 = 512 << 20;

/// Most sub-records of one peer, in all keys: 16 models and their lines in the catalogue.
const MAX_PER_PEER: usize = 32;

/// Most sub-records in all.
const MAX_HELD: usize = 16 * 1024;

/// Peers that vouch for a model in the catalogue: enough that some of them are always fresh, few enough that hundreds
/// of models fit under its one key.
const MAX_WITNESSES: usize = 8;

/// Longest life an advert may claim, in seconds: who asks for more could never be forgotten.
pub(super) const MAX_LIFE_S: u64 = 600;

/// How far clocks may differ, in seconds. An advert lives this much longer in the eyes of others.
pub(super) const CLOCK_SKEW_S: u64 = 30;

/// Seconds since 1970; tests set their own.
pub(super) type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The sub-records of this node's part of the DHT.
pub(super) struct AdvertStore {
    clock: Clock,
    keys: HashMap<RecordKey, BTreeMap<(NodeId, ModelHash), Held>>,
    per_peer: HashMap<NodeId, usize>,
    per_origin: HashMap<Origin, usize>,
    held: usize,
    /// Reading has its pace; the trait that reads through a shared reference leaves no other way to count.
    reads: Cell<Pace>,
}

struct Held {
    seq: u64,
    expires_unix_s: u64,
    origin: Option<Origin>,
    raw: Vec<u8>,
}

/// Why a sub-record is not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error(transparent)]
    Bad(#[from] AdvertError),
    #[error("it is of {peer}, and nobody speaks for another")]
    NotTheirs { peer: NodeId },
    #[error("it lies under a key that is not its own")]
    ForeignKey,
    #[error("it expired at {expires_unix_s}, now is {now}")]
    Expired { expires_unix_s: u64, now: u64 },
    #[error("it wants to live {life_s} s, at most {MAX_LIFE_S} are given")]
    TooLong { life_s: u64 },
    #[error("sequence {got} is not newer than {held}")]
    Older { got: u64, held: u64 },
    #[error("there is no more room: {0}")]
    Full(&'static str),
}

/// The clock of the machine.
pub(super) fn system_clock() -> Clock {
    Arc::new(|| std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// Judges the expiry of what was read.
pub(super) fn alive(expires_unix_s: u64, now: u64) -> Result<(), Refusal> {
    if expires_unix_s.saturating_add(CLOCK_SKEW_S) <= now {
        return Err(Refusal::Expired { expires_unix_s, now });
    }
    let life_s = expires_unix_s.saturating_sub(now);
    if life_s > MAX_LIFE_S + CLOCK_SKEW_S {
        return Err(Refusal::TooLong { life_s });
    }
    Ok(())
}

impl AdvertStore {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            keys: HashMap::new(),
            per_peer: HashMap::new(),
            per_origin: HashMap::new(),
            held: 0,
            reads: Cell::new(Pace::new(READ_RATE, READ_BURST, Duration::ZERO)),
        }
    }

    /// Takes one sub-record from the peer that made it, if it is good and newer than what is held.
    pub(super) fn admit(
        &mut self,
        source: &NodeId,
        origin: Option<Origin>,
        key: &RecordKey,
        value: &[u8],
    ) -> Result<(), Refusal> {
        let sealed = Sealed::open(key.as_ref(), value)?;
        if sealed.peer != *source {
            return Err(Refusal::NotTheirs { peer: sealed.peer });
        }
        self.keep(key, value, sealed, origin)
    }

    fn keep(&mut self, key: &RecordKey, value: &[u8], sealed: Sealed, origin: Option<Origin>) -> Result<(), Refusal> {
        let now = (self.clock)();
        alive(sealed.expires_unix_s, now)?;
        let model = sealed.claim.model();
        let catalogue = *key == dht_key::catalogue();
        if !catalogue && *key != dht_key::of_peer(model, &sealed.peer) {
            return Err(Refusal::ForeignKey);
        }
        let place = (sealed.peer, model);
        self.forget_expired(key, now);
        let held = self.keys.get(key);
        if let Some(old) = held.and_then(|held| held.get(&place)) {
            if old.seq >= sealed.seq {
                return Err(Refusal::Older { got: sealed.seq, held: old.seq });
            }
        } else {
            self.check_room(key, &sealed, origin, catalogue)?;
            if held.is_some_and(|held| held.len() >= MAX_PER_KEY) {
                let loser = self.crowded_out(key, origin)?;
                self.remove(key, &loser);
            }
        }
        let held = Held { seq: sealed.seq, expires_unix_s: sealed.expires_unix_s, origin, raw: value.to_vec() };
        self.insert(key, place, held);
        Ok(())
    }

    fn insert(&mut self, key: &RecordKey, place: (NodeId, ModelHash), held: Held) {
        self.remove(key, &place);
        self.held += 1;
        *self.per_peer.entry(place.0).or_default() += 1;
        if let Some(origin) = held.origin {
            *self.per_origin.entry(origin).or_default() += 1;
        }
        self.keys.entry(key.clone()).or_default().insert(place, held);
    }

    fn remove(&mut self, key: &RecordKey, place: &(NodeId, ModelHash)) {
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

    /// Who makes room under a full key for somebody from `origin`: the one that expires first of those whose network has
    /// most there. A network that has as many already gets no more.
    fn crowded_out(&self, key: &RecordKey, origin: Option<Origin>) -> Result<(NodeId, ModelHash), Refusal> {
        let full = Refusal::Full("the key has as many adverts as it may");
        let Some(under) = self.keys.get(key) else { return Err(full) };
        let mut crowds: HashMap<Option<Origin>, usize> = HashMap::new();
        under.values().for_each(|held| *crowds.entry(held.origin).or_default() += 1);
        let Some((crowd, most)) = crowds.iter().max_by_key(|(_, count)| **count) else { return Err(full) };
        if crowds.get(&origin).copied().unwrap_or_default() + 1 >= *most {
            return Err(full);
        }
        let of_crowd = under.iter().filter(|(_, held)| held.origin == *crowd);
        of_crowd.min_by_key(|(_, held)| held.expires_unix_s).map(|(place, _)| *place).ok_or(full)
    }

    /// Drops everything that expired.
    pub(super) fn sweep(&mut self) {
        let now = (self.clock)();
        for key in self.keys.keys().cloned().collect::<Vec<_>>() {
            self.forget_expired(&key, now);
        }
    }

    fn check_room(
        &self,
        key: &RecordKey,
        sealed: &Sealed,
        origin: Option<Origin>,
        catalogue: bool,
    ) -> Result<(), Refusal> {
        if self.held >= MAX_HELD {
            return Err(Refusal::Full("this node holds as many adverts as it may"));
        }
        if self.per_peer.get(&sealed.peer).is_some_and(|count| *count >= MAX_PER_PEER) {
            return Err(Refusal::Full("the peer has as many adverts as it may"));
        }
        if let Some(origin) = origin
            && self.per_origin.get(&origin).is_some_and(|count| *count >= MAX_PER_ORIGIN)
        {
            return Err(Refusal::Full("its network has as many adverts here as it may"));
        }
        let Some(held) = self.keys.get(key) else { return Ok(()) };
        let neighbours = || held.values().filter(|held| held.origin == origin).count();
        if origin.is_some() && neighbours() >= MAX_PER_KEY_AND_ORIGIN {
            return Err(Refusal::Full("its network has as many adverts under the key as it may"));
        }
        let witnesses = || held.keys().filter(|(_, model)| *model == sealed.claim.model()).count();
        if catalogue && matches!(sealed.claim, Claim::Serves(_)) && witnesses() >= MAX_WITNESSES {
            return Err(Refusal::Full("enough peers vouch for the model"));
        }
        Ok(())
    }

    fn forget_expired(&mut self, key: &RecordKey, now: u64) {
        let expired = |held: &Held| held.expires_unix_s.saturating_add(CLOCK_SKEW_S) <= now;
        let Some(under) = self.keys.get(key) else { return };
        let gone = under.iter().filter(|(_, held)| expired(held)).map(|(place, _)| *place).collect::<Vec<_>>();
        gone.iter().for_each(|place| self.remove(key, place));
    }
}

fn count_down<K: Eq + std::hash::Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

impl RecordStore for AdvertStore {
    type RecordsIter<'a> = iter::Empty<Cow<'a, Record>>;
    type ProvidedIter<'a> = iter::Empty<Cow<'a, ProviderRecord>>;

    fn get(&self, key: &RecordKey) -> Option<Cow<'_, Record>> {
        let now = (self.clock)();
        let alive = |sub: &&Held| sub.expires_unix_s.saturating_add(CLOCK_SKEW_S) > now;
        let held = self.keys.get(key)?;
        let mut reads = self.reads.get();
        let bytes = held.values().map(|sub| sub.raw.len() as u64).sum();
        if reads.take(bytes, Instant::now()) != Verdict::Now {
            tracing::debug!("a read of the DHT is not answered: all together read too fast");
            return None;
        }
        self.reads.set(reads);
        let value = held.values().filter(alive).map(|sub| &sub.raw[..]).collect::<Vec<_>>().concat();
        (!value.is_empty()).then(|| Cow::Owned(Record { key: key.clone(), value, publisher: None, expires: None }))
    }

    /// Only our own adverts come this way; those of others go through [`AdvertStore::admit`] by the event loop.
    ///
    /// No room here is no reason not to publish to others, so that is no error.
    fn put(&mut self, record: Record) -> kad::store::Result<()> {
        let kept = Sealed::open(record.key.as_ref(), &record.value)
            .map_err(Refusal::from)
            .and_then(|sealed| self.keep(&record.key, &record.value, sealed, None));
        match kept {
            Ok(()) | Err(Refusal::Full(_)) => Ok(()),
            Err(refusal) => {
                tracing::error!(%refusal, "own advert is not acceptable; is the clock of this machine right?");
                Err(kad::store::Error::ValueTooLarge)
            }
        }
    }

    fn remove(&mut self, _: &RecordKey) {}

    fn records(&self) -> Self::RecordsIter<'_> {
        iter::empty()
    }

    fn add_provider(&mut self, _: ProviderRecord) -> kad::store::Result<()> {
        Err(kad::store::Error::MaxProvidedKeys)
    }

    fn providers(&self, _: &RecordKey) -> Vec<ProviderRecord> {
        Vec::new()
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        iter::empty()
    }

    fn remove_provider(&mut self, _: &RecordKey, _: &NodeId) {}
}

impl fmt::Debug for AdvertStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdvertStore").field("keys", &self.keys.len()).field("held", &self.held).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use libp2p::identity::Keypair;

    use super::{super::advert::split_first, *};
    use crate::peer::advert::tests::offer;

    const NOW: u64 = 1_000_000;

    fn store() -> (AdvertStore, Arc<AtomicU64>) {
        let time = Arc::new(AtomicU64::new(NOW));
        let clock = Arc::clone(&time);
        (AdvertStore::new(Arc::new(move || clock.load(Ordering::Relaxed))), time)
    }

    fn key(seed: u16) -> Keypair {
        let mut bytes = [9; 32];
        bytes[..2].copy_from_slice(&seed.to_le_bytes());
        Keypair::ed25519_from_bytes(bytes).unwrap()
    }

    fn claim(model: u8) -> Claim {
        let mut offer = offer((0, 10));
        offer.model = ModelHash([model; 32]);
        Claim::Serves(Box::new(offer))
    }

    fn put(
        store: &mut AdvertStore,
        key: &Keypair,
        dht_key: &RecordKey,
        seq: u64,
        expires: u64,
        claim: &Claim,
    ) -> Result<(), Refusal> {
        put_from(store, key, None, dht_key, seq, expires, claim)
    }

    fn put_from(
        store: &mut AdvertStore,
        key: &Keypair,
        origin: Option<Origin>,
        dht_key: &RecordKey,
        seq: u64,
        expires: u64,
        claim: &Claim,
    ) -> Result<(), Refusal> {
        store.admit(
            &key.public().to_peer_id(),
            origin,
            dht_key,
            &Sealed::seal(key, dht_key.as_ref(), seq, expires, claim).unwrap(),
        )
    }

    fn own(key: &Keypair, model: u8) -> RecordKey {
        dht_key::of_peer(ModelHash([model; 32]), &key.public().to_peer_id())
    }

    fn count(store: &AdvertStore, key: &RecordKey) -> usize {
        let Some(record) = store.get(key) else { return 0 };
        let (mut rest, mut count) = (&record.value[..], 0);
        while !rest.is_empty() {
            let (first, after) = split_first(rest).unwrap();
            Sealed::open(key.as_ref(), first).unwrap();
            (rest, count) = (after, count + 1);
        }
        count
    }

    #[test]
    fn peers_under_one_key_are_merged_and_the_newest_word_of_each_counts() {
        let (mut store, _) = store();
        let slice = own(&key(0), 1);
        let peers = (0..200).map(key).filter(|key| own(key, 1) == slice).take(3).collect::<Vec<_>>();
        for peer in &peers {
            put(&mut store, peer, &slice, 1, NOW + 60, &claim(1)).unwrap();
        }
        assert_eq!(count(&store, &slice), 3);
        put(&mut store, &peers[0], &slice, 5, NOW + 60, &Claim::Gone(ModelHash([1; 32]))).unwrap();
        assert_eq!(count(&store, &slice), 3, "a withdrawal stays to shadow older words on other nodes");
        let replayed = put(&mut store, &peers[0], &slice, 4, NOW + 60, &claim(1));
        assert_eq!(replayed, Err(Refusal::Older { got: 4, held: 5 }));
    }

    #[test]
    fn forged_and_misplaced_words_are_refused() {
        let (mut store, _) = store();
        let (a, b) = (key(1), key(2));
        let slice = own(&a, 1);
        let mut forged = Sealed::seal(&a, slice.as_ref(), 1, NOW + 60, &claim(1)).unwrap();
        forged[1..33].copy_from_slice(&b.public().try_into_ed25519().unwrap().to_bytes());
        let [a_id, b_id] = [&a, &b].map(|key| key.public().to_peer_id());
        assert_eq!(store.admit(&b_id, None, &slice, &forged), Err(Refusal::Bad(AdvertError::Signature)));
        let good = Sealed::seal(&a, slice.as_ref(), 1, NOW + 60, &claim(1)).unwrap();
        assert_eq!(store.admit(&b_id, None, &slice, &good), Err(Refusal::NotTheirs { peer: a_id }));
        let elsewhere = own(&a, 2);
        assert_eq!(put(&mut store, &a, &elsewhere, 1, NOW + 60, &claim(1)), Err(Refusal::ForeignKey));
        let random = RecordKey::new(b"anything");
        assert_eq!(put(&mut store, &a, &random, 1, NOW + 60, &claim(1)), Err(Refusal::ForeignKey));
        assert!(store.admit(&a_id, None, &slice, &[good, forged].concat()).is_err());
        assert_eq!(store.held, 0);
    }

    #[test]
    fn expiry_has_bounds_and_is_kept() {
        let (mut store, time) = store();
        let a = key(1);
        let slice = own(&a, 1);
        let expired = put(&mut store, &a, &slice, 1, NOW - CLOCK_SKEW_S, &claim(1));
        assert!(matches!(expired, Err(Refusal::Expired { .. })));
        for forever in [NOW + MAX_LIFE_S + CLOCK_SKEW_S + 1, u64::MAX] {
            assert!(matches!(put(&mut store, &a, &slice, 1, forever, &claim(1)), Err(Refusal::TooLong { .. })));
        }
        put(&mut store, &a, &slice, 1, NOW + 60, &claim(1)).unwrap();
        time.store(NOW + 60 + CLOCK_SKEW_S - 1, Ordering::Relaxed);
        assert_eq!(count(&store, &slice), 1);
        time.store(NOW + 60 + CLOCK_SKEW_S, Ordering::Relaxed);
        assert_eq!(count(&store, &slice), 0);
        store.sweep();
        assert!(store.held == 0 && store.per_peer.is_empty() && store.keys.is_empty());
    }

    #[test]
    fn one_peer_and_one_key_take_only_their_share() {
        let (mut store, _) = store();
        let a = key(1);
        let taken =
            (0..=255).filter(|model| put(&mut store, &a, &own(&a, *model), 1, NOW + 60, &claim(*model)).is_ok());
        assert_eq!(taken.count(), MAX_PER_PEER);
        let catalogue = dht_key::catalogue();
        for seed in 2..2 + MAX_WITNESSES as u16 {
            put(&mut store, &key(seed), &catalogue, 1, NOW + 60, &claim(1)).unwrap();
        }
        assert!(matches!(put(&mut store, &key(50), &catalogue, 1, NOW + 60, &claim(1)), Err(Refusal::Full(_))));
        put(&mut store, &key(50), &catalogue, 1, NOW + 60, &claim(2)).unwrap();
    }

    #[test]
    fn made_up_identities_of_some_networks_keep_no_other_network_out() {
        let (mut store, _) = store();
        let catalogue = dht_key::catalogue();
        let network = |number: u8| Some(Origin::V4([9, 9, number]));
        let mut model = 0u16;
        let mut put = |store: &mut AdvertStore, origin, seed: u16| {
            model += 1;
            let mut hash = [7; 32];
            hash[..2].copy_from_slice(&model.to_le_bytes());
            let mut offer = offer((0, 10));
            offer.model = ModelHash(hash);
            let claim = Claim::Serves(Box::new(offer));
            put_from(store, &key(seed), origin, &catalogue, 1, NOW + 60, &claim)
        };
        // One network takes an eighth of a key, however many its nodes say they are; eight fill it.
        let taken = (0..100).filter(|seed| put(&mut store, network(0), *seed).is_ok()).count();
        assert_eq!(taken, MAX_PER_KEY_AND_ORIGIN);
        for number in 1..8 {
            (0..64).for_each(|seed| put(&mut store, network(number), 1000 + u16::from(number) * 100 + seed).unwrap());
        }
        assert_eq!(count(&store, &catalogue), MAX_PER_KEY);
        // The honest ones come after them.
        (0..20).for_each(|seed| put(&mut store, network(100 + (seed % 4) as u8), 3000 + seed).unwrap());
        (0..20).for_each(|seed| put(&mut store, None, 4000 + seed).unwrap());
        assert_eq!(count(&store, &catalogue), MAX_PER_KEY);
        let honest = store.keys[&catalogue].values().filter(|held| match held.origin {
            Some(Origin::V4([_, _, number])) => number >= 100,
            _ => true,
        });
        assert_eq!(honest.count(), 40);
        assert_eq!((store.held, store.per_origin.values().sum::<usize>()), (MAX_PER_KEY, MAX_PER_KEY - 20));
    }

    #[test]
    fn reading_has_its_pace() {
        let (mut store, _) = store();
        let a = key(1);
        put(&mut store, &a, &own(&a, 1), 1, NOW + 60, &claim(1)).unwrap();
        let size = store.get(&own(&a, 1)).unwrap().value.len() as u64;
        store.reads.set(Pace::new(1, 3 * size, Duration::ZERO));
        assert_eq!((0..10).filter(|_| store.get(&own(&a, 1)).is_some()).count(), 3);
    }
}
