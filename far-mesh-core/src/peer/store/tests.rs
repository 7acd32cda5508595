//! What is kept, what is refused, and for whom there is room.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use libp2p::{
    identity::Keypair,
    kad::{RecordKey, store::RecordStore as _},
};

use super::{
    expiry::CLOCK_SKEW_S,
    refusal::Refusal,
    shelves::{MAX_PER_KEY_AND_ORIGIN, MAX_PER_PEER, MAX_WITNESSES},
    *,
};
use crate::{
    id::ModelHash,
    peer::{
        advert::{AdvertError, Claim, Sealed, split_first, tests::offer},
        dht_key,
        origin::Origin,
        quota::Pace,
    },
};

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
    assert_eq!(store.shelves.held, 0);
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
    assert!(store.shelves.held == 0 && store.shelves.per_peer.is_empty() && store.shelves.keys.is_empty());
}

#[test]
fn one_peer_and_one_key_take_only_their_share() {
    let (mut store, _) = store();
    let a = key(1);
    let taken = (0..=255).filter(|model| put(&mut store, &a, &own(&a, *model), 1, NOW + 60, &claim(*model)).is_ok());
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
    let honest = store.shelves.keys[&catalogue].values().filter(|held| match held.origin {
        Some(Origin::V4([_, _, number])) => number >= 100,
        _ => true,
    });
    assert_eq!(honest.count(), 40);
    assert_eq!((store.shelves.held, store.shelves.per_origin.values().sum::<usize>()), (MAX_PER_KEY, MAX_PER_KEY - 20));
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
