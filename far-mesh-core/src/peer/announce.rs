//! What this node says about itself, and when it says it again. Pure: the event loop publishes what is due.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, identity::Keypair, kad::RecordKey};

use super::{
    advert::{AdvertError, Claim, Sealed, ShardOffer},
    config::ADVERT_LIVES,
    dht_key,
    publish::{Reach, Spread},
    store::{Clock, MAX_LIFE_S},
};
use crate::id::{ModelHash, NodeId};

/// Pause before an announcement that reached nobody is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Pause after the first announcement of an offer; doubles up to the interval.
///
/// A mesh that starts all at once grows under an advert: who is closest to its key changes with every node that joins. With
/// pauses that double, the mesh about doubles between two announcements, so that half of those who are asked for a key
/// still hold what was announced before.
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// Shortest interval that makes sense: less only loads the DHT.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// The offers of this node.
pub(super) struct Announcer {
    key: Keypair,
    id: NodeId,
    clock: Clock,
    interval: Duration,
    offers: HashMap<ModelHash, Offered>,
    last_seq: u64,
}

struct Offered {
    claim: Claim,
    /// Whether its addresses are those the node finds for itself.
    own_addrs: bool,
    due: Instant,
    /// Before the announcement after the next.
    pause: Duration,
    /// Whether the next announcement is in the catalogue too: every other is, which is often enough for what only says that
    /// somebody serves the model.
    listed: bool,
    place: Place,
}

/// Whether somebody holds an advert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// It is on its way for the first time: whether somebody takes it will be told.
    Sent,
    Nowhere,
    Held,
}

/// Signed sub-records of one claim: under the model's key first, then in the catalogue where they are due there.
pub(super) type Records = Vec<(RecordKey, Vec<u8>)>;

impl Announcer {
    pub(super) fn new(key: Keypair, interval: Duration, clock: Clock) -> Self {
        let longest = Duration::from_secs(MAX_LIFE_S) / ADVERT_LIVES;
        let id = key.public().to_peer_id();
        let interval = interval.clamp(MIN_INTERVAL, longest);
        Self { key, id, clock, interval, offers: HashMap::new(), last_seq: 0 }
    }

    /// Offers a shard from now on, in place of what was offered of its model before; without addresses of its own it gets
    /// `addrs`.
    ///
    /// # Errors
    /// [`AdvertError`] when the offer would not be accepted; the one before stays then.
    pub(super) fn offer(
        &mut self,
        mut offer: ShardOffer,
        addrs: Vec<Multiaddr>,
        now: Instant,
    ) -> Result<Records, AdvertError> {
        let (model, own_addrs) = (offer.model, offer.addrs.is_empty());
        if own_addrs {
            offer.addrs = addrs;
        }
        let claim = Claim::Serves(Box::new(offer));
        let records = self.seal(&claim, true)?;
        // What changes is no younger for that.
        let pause = self.offers.get(&model).map_or(FIRST_PAUSE.min(self.interval), |before| before.pause);
        let (due, pause) = (now + drifting(pause), after(pause, self.interval));
        self.offers.insert(model, Offered { claim, own_addrs, due, pause, listed: false, place: Place::Sent });
        Ok(records)
    }

    /// Stops offering a model; what it returns tells the others. `None` when it was not offered.
    pub(super) fn withdraw(&mut self, model: ModelHash) -> Option<Records> {
        self.offers.remove(&model)?;
        self.seal(&Claim::Gone(model), true).ok()
    }

    /// The node is reached elsewhere now: what says otherwise is due at once.
    pub(super) fn readdress(&mut self, addrs: &[Multiaddr], now: Instant) {
        for offered in self.offers.values_mut().filter(|offered| offered.own_addrs) {
            if let Claim::Serves(offer) = &mut offered.claim {
                offer.addrs = addrs.to_vec();
                offered.due = now;
            }
        }
    }

    /// The models offered.
    pub(super) fn models(&self) -> Vec<ModelHash> {
        self.offers.keys().copied().collect()
    }

    /// When to call [`Announcer::due`] next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.offers.values().map(|offered| offered.due).min()
    }

    /// What to publish again at `now`.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(ModelHash, Records, Reach)> {
        let mut claims = Vec::new();
        for (model, offered) in self.offers.iter_mut().filter(|(_, offered)| offered.due <= now) {
            offered.due = now + drifting(offered.pause);
            offered.pause = after(offered.pause, self.interval);
            let reach = if offered.place == Place::Held { Reach::Routine } else { Reach::Urgent };
            if offered.place == Place::Nowhere {
                offered.place = Place::Sent;
            }
            claims.push((*model, offered.claim.clone(), offered.listed, reach));
            offered.listed = !offered.listed;
        }
        // Each was sealed before with the same contents, so it can be sealed again.
        let sealed = |(model, claim, listed, reach)| Some((model, self.seal(&claim, listed).ok()?, reach));
        claims.into_iter().filter_map(sealed).collect()
    }

    /// What became of the last announcement of a model.
    pub(super) fn placed(&mut self, model: ModelHash, outcome: Spread, now: Instant) {
        let Some(offered) = self.offers.get_mut(&model) else { return };
        offered.place = if outcome == Spread::Nowhere { Place::Nowhere } else { Place::Held };
        let pause = match outcome {
            Spread::Nowhere => RETRY,
            Spread::Thin => FIRST_PAUSE,
            Spread::Wide => return,
        };
        offered.due = offered.due.min(now + pause);
    }

    /// Somebody new can be asked: what nobody holds is due at once. What is on its way is not: in a mesh that starts,
    /// somebody new comes many times a second.
    pub(super) fn retry_unplaced(&mut self, now: Instant) {
        for offered in self.offers.values_mut().filter(|offered| offered.place == Place::Nowhere) {
            offered.due = now;
        }
    }

    fn seal(&mut self, claim: &Claim, listed: bool) -> Result<Records, AdvertError> {
        let now = (self.clock)();
        // Time makes the sequence grow over restarts too, the maximum within a second and when the clock jumps back.
        self.last_seq = (self.last_seq + 1).max(now.saturating_mul(1_000_000));
        let expires = now.saturating_add(self.interval.as_secs().saturating_mul(u64::from(ADVERT_LIVES)));
        let seal = |key: RecordKey| {
            let bytes = Sealed::seal(&self.key, key.as_ref(), self.last_seq, expires, claim)?;
            Ok::<_, AdvertError>((key, bytes))
        };
        let mut records = vec![seal(dht_key::of_peer(claim.model(), &self.id))?];
        if listed {
            records.push(seal(dht_key::catalogue())?);
        }
        Ok(records)
    }
}

/// The pause that follows one.
fn after(pause: Duration, interval: Duration) -> Duration {
    (pause * 2).min(interval)
}

/// The interval give or take a sixth, so that nodes that started together drift apart.
fn drifting(interval: Duration) -> Duration {
    interval.mul_f64(rand::random_range(5.0 / 6.0..7.0 / 6.0))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::peer::advert::tests::offer;

    fn announcer() -> Announcer {
        Announcer::new(Keypair::generate_ed25519(), Duration::from_secs(45), Arc::new(|| 1000))
    }

    fn seq(records: &Records) -> u64 {
        Sealed::open(records[0].0.as_ref(), &records[0].1).unwrap().seq
    }

    #[test]
    fn every_word_is_newer_than_the_one_before_and_expires_in_time() {
        let (mut announcer, start) = (announcer(), Instant::now());
        let model = offer((0, 10)).model;
        let first = announcer.offer(offer((0, 10)), Vec::new(), start).unwrap();
        let opened = Sealed::open(first[1].0.as_ref(), &first[1].1).unwrap();
        assert_eq!(opened.expires_unix_s, 1000 + 135);
        assert!(announcer.due(start + Duration::from_secs(1)).is_empty());
        let again = announcer.due(start + Duration::from_secs(60));
        assert_eq!(again.len(), 1);
        assert!(seq(&again[0].1) > seq(&first));
        let gone = announcer.withdraw(model).unwrap();
        assert!(seq(&gone) > seq(&again[0].1));
        assert!(announcer.withdraw(model).is_none() && announcer.next_due().is_none());
    }

    #[test]
    fn what_nobody_holds_is_tried_again_soon_and_at_once_when_somebody_comes() {
        let (mut announcer, start) = (announcer(), Instant::now());
        let model = offer((0, 10)).model;
        announcer.offer(offer((0, 10)), Vec::new(), start).unwrap();
        announcer.placed(model, Spread::Nowhere, start);
        assert!(announcer.next_due().unwrap() <= start + RETRY);
        announcer.retry_unplaced(start);
        assert_eq!(announcer.due(start).len(), 1);
        announcer.placed(model, Spread::Wide, start);
        announcer.retry_unplaced(start);
        assert!(announcer.due(start).is_empty());
    }

    #[test]
    fn what_is_on_its_way_is_not_sent_again_however_many_come() {
        let (mut announcer, start) = (announcer(), Instant::now());
        let model = offer((0, 10)).model;
        announcer.offer(offer((0, 10)), Vec::new(), start).unwrap();
        for _ in 0..100 {
            announcer.retry_unplaced(start);
            assert!(announcer.due(start).is_empty(), "the first is on its way");
        }
        announcer.placed(model, Spread::Nowhere, start);
        announcer.retry_unplaced(start);
        assert_eq!(announcer.due(start).len(), 1);
        announcer.retry_unplaced(start);
        assert!(announcer.due(start).is_empty(), "so is the second");
    }

    #[test]
    fn a_young_advert_is_announced_often_and_an_old_one_at_its_interval() {
        let (mut announcer, start) = (announcer(), Instant::now());
        announcer.offer(offer((0, 10)), Vec::new(), start).unwrap();
        let (mut at, mut pauses) = (start, Vec::new());
        for _ in 0..8 {
            let due = announcer.next_due().unwrap();
            pauses.push((due - at).as_secs_f64());
            at = due;
            assert_eq!(announcer.due(at).len(), 1);
        }
        let drifts = |pause: &f64, middle: f64| (middle * 5.0 / 6.0..=middle * 7.0 / 6.0).contains(pause);
        let middles = [5.0, 10.0, 20.0, 40.0, 45.0, 45.0, 45.0, 45.0];
        assert!(pauses.iter().zip(middles).all(|(pause, middle)| drifts(pause, middle)), "{pauses:?}");
        announcer.offer(offer((0, 20)), Vec::new(), at).unwrap();
        assert!(
            drifts(&(announcer.next_due().unwrap() - at).as_secs_f64(), 45.0),
            "what changes is no younger for that"
        );
    }

    #[test]
    fn what_few_took_in_time_is_said_again_soon() {
        let (mut announcer, start) = (announcer(), Instant::now());
        let model = offer((0, 10)).model;
        announcer.offer(offer((0, 10)), Vec::new(), start).unwrap();
        for _ in 0..8 {
            assert_eq!(announcer.due(announcer.next_due().unwrap()).len(), 1);
        }
        let now = start + Duration::from_secs(10);
        announcer.placed(model, Spread::Wide, now);
        assert!(announcer.next_due().unwrap() > now + FIRST_PAUSE);
        announcer.placed(model, Spread::Thin, now);
        assert_eq!(announcer.next_due().unwrap(), now + FIRST_PAUSE);
    }

    #[test]
    fn every_other_announcement_is_in_the_catalogue_and_none_expires_there() {
        let (mut announcer, start) = (announcer(), Instant::now());
        let first = announcer.offer(offer((0, 10)), Vec::new(), start).unwrap();
        assert_eq!(first.len(), 2);
        let mut listed = start;
        for round in 1..12 {
            let at = announcer.next_due().unwrap();
            let due = announcer.due(at);
            assert_eq!(due[0].1.len(), 2 - round % 2, "announcement {round}");
            if due[0].1.len() == 2 {
                assert!(at - listed < Duration::from_secs(45) * ADVERT_LIVES, "announcement {round}");
                listed = at;
            }
        }
    }

    #[test]
    fn a_bad_offer_leaves_the_good_one() {
        let (mut announcer, start) = (announcer(), Instant::now());
        announcer.offer(offer((0, 10)), Vec::new(), start).unwrap();
        let mut bad = offer((0, 10));
        bad.layers = 5;
        assert!(announcer.offer(bad, Vec::new(), start).is_err());
        assert_eq!(announcer.models().len(), 1);
    }

    #[test]
    fn a_node_that_moves_says_so_at_once_unless_it_was_told_where_it_is() {
        let (mut announcer, start) = (announcer(), Instant::now());
        let addr: Multiaddr = "/ip4/9.9.9.9/tcp/1".parse().unwrap();
        let own = ShardOffer { addrs: Vec::new(), ..offer((0, 10)) };
        announcer.offer(own, vec!["/ip4/10.0.0.1/tcp/1".parse().unwrap()], start).unwrap();
        announcer.offer(ShardOffer { model: ModelHash([8; 32]), ..offer((0, 10)) }, Vec::new(), start).unwrap();
        announcer.readdress(std::slice::from_ref(&addr), start);
        let due = announcer.due(start);
        assert_eq!(due.len(), 1);
        let Claim::Serves(said) = Sealed::open(due[0].1[0].0.as_ref(), &due[0].1[0].1).unwrap().claim else { panic!() };
        assert_eq!(said.addrs, [addr]);
    }
}
