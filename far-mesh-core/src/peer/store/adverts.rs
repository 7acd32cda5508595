//! Judges what is put, and answers what is asked.
//!
//! Invariant: every sub-record held was checked: signature, key, expiry.

use std::{
    borrow::Cow,
    cell::Cell,
    fmt, iter,
    time::{Duration, Instant},
};

use libp2p::kad::{self, ProviderRecord, Record, RecordKey, store::RecordStore};

use super::{
    expiry::{Clock, alive, is_over},
    refusal::Refusal,
    shelves::{Held, Shelves},
};
use crate::{
    id::NodeId,
    peer::{
        advert::{Claim, Sealed},
        dht_key,
        origin::Origin,
        quota::{Pace, Verdict},
    },
};

/// Bytes a second that are read from here in the long run. A node asks for a model's eight keys each few seconds; Kademlia
/// does not tell who asks, so this holds for all together.
const READ_RATE: u64 = 64 << 20;

/// Bytes that may be read at once: a hundred whole tables of a large mesh.
const READ_BURST: u64 = 512 << 20;

/// The sub-records of this node's part of the DHT.
pub(in crate::peer) struct AdvertStore {
    clock: Clock,
    pub(super) shelves: Shelves,
    /// Reading has its pace; the trait that reads through a shared reference leaves no other way to count.
    pub(super) reads: Cell<Pace>,
}

impl AdvertStore {
    pub(in crate::peer) fn new(clock: Clock) -> Self {
        let reads = Cell::new(Pace::new(READ_RATE, READ_BURST, Duration::ZERO));
        Self { clock, shelves: Shelves::default(), reads }
    }

    /// Takes one sub-record from the peer that made it, if it is good and newer than what is held.
    pub(in crate::peer) fn admit(
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
        self.shelves.forget_expired(key, now);
        match self.shelves.get(key, &place) {
            Some(old) if old.seq >= sealed.seq => {
                return Err(Refusal::Older { got: sealed.seq, held: old.seq });
            }
            Some(_) => {}
            None => {
                let witness = catalogue && matches!(sealed.claim, Claim::Serves(_));
                self.shelves.make_room(key, &place, origin, witness)?;
            }
        }
        let held = Held { seq: sealed.seq, expires_unix_s: sealed.expires_unix_s, origin, raw: value.to_vec() };
        self.shelves.put(key, place, held);
        Ok(())
    }

    /// Drops everything that expired.
    pub(in crate::peer) fn sweep(&mut self) {
        self.shelves.sweep((self.clock)());
    }
}

impl RecordStore for AdvertStore {
    type RecordsIter<'a> = iter::Empty<Cow<'a, Record>>;
    type ProvidedIter<'a> = iter::Empty<Cow<'a, ProviderRecord>>;

    fn get(&self, key: &RecordKey) -> Option<Cow<'_, Record>> {
        let now = (self.clock)();
        let alive = |sub: &&Held| !is_over(sub.expires_unix_s, now);
        let held = self.shelves.under(key)?;
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
        let Shelves { keys, held, .. } = &self.shelves;
        f.debug_struct("AdvertStore").field("keys", &keys.len()).field("held", held).finish_non_exhaustive()
    }
}
