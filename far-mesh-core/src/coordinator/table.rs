//! The adverts of a model, kept fresh beside the requests.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::standing::Standing;
use crate::{
    id::{ModelHash, NodeId},
    peer::{Advert, DiscoveryError, MAX_LIFE_S, Multiaddr, Node, SHARD_PROTOCOL},
    route::{Offer, refuted},
};

/// How often the DHT is asked: a look-up costs a few dozen small requests (m: 180 with 100 nodes).
const REFRESH: Duration = Duration::from_secs(2);

/// How long a node that was lost is asked whether it is there: longer than its next advert takes. One that did not answer
/// by then is taken to be gone, until it announces itself anew; then it is asked again.
const SET_ASIDE: Duration = Duration::from_secs(60);

/// How long a node that was lost is left alone at first; twice as long each time it is lost again soon
/// after it came back.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// How many nodes are measured at a time: 500 are known in two minutes, and nobody notices the handshakes.
const MEASURED_AT_ONCE: usize = 8;

/// How long the way to a node is taken to be as it was when the connection closed.
const KEEP_RTT: Duration = Duration::from_secs(10 * 60);

/// Adverts of one model, what was measured and seen of their nodes, and nodes not to be used for now.
#[derive(Debug)]
pub(super) struct Table {
    node: Node,
    model: ModelHash,
    /// The coordinator's own region.
    home: Option<String>,
    adverts: watch::Sender<Option<Vec<Advert>>>,
    aside: Mutex<HashMap<NodeId, Aside>>,
    ways: Mutex<HashMap<NodeId, Way>>,
    standing: Mutex<Standing>,
    /// Nodes that do not stand where they say, and where they say.
    refuted: Mutex<HashMap<NodeId, String>>,
}

/// The way to a node: asked for, and what came of it.
#[derive(Clone, Copy, Debug)]
struct Way {
    rtt: Option<Duration>,
    at: Instant,
}

#[derive(Debug)]
struct Aside {
    since: Instant,
    /// Of its advert when it was lost.
    seq: u64,
    /// How long it is left alone before it is asked again.
    wait: Duration,
    /// It was asked again and is there, so it may be used. A newer advert says less: it may be of just before the loss, and
    /// whoever tries a dead node waits for it to open.
    answers: bool,
}

impl Aside {
    /// Whether it is to be asked now, where its newest advert has the sequence number `seq`. One that announced itself anew
    /// may have been started again, so it is asked at once the first time.
    fn is_due(&self, seq: u64) -> bool {
        let (elapsed, newer) = (self.since.elapsed(), seq > self.seq);
        let left_alone = elapsed < self.wait && !(newer && self.wait <= ASK_AGAIN);
        !self.answers && !left_alone && (elapsed < SET_ASIDE || newer)
    }
}

impl Table {
    pub(super) fn new(node: Node, model: ModelHash, home: Option<String>) -> Self {
        Self {
            node,
            model,
            home,
            adverts: watch::Sender::new(None),
            aside: Mutex::default(),
            ways: Mutex::default(),
            standing: Mutex::default(),
            refuted: Mutex::default(),
        }
    }

    /// Keeps the table fresh until dropped.
    pub(super) async fn keep(&self) {
        tokio::join!(self.keep_adverts(), self.keep_asking(), self.keep_measuring());
    }

    async fn keep_adverts(&self) {
        let mut ticks = tokio::time::interval(REFRESH);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.refresh().await {
                tracing::debug!(%error, "the table of providers is not refreshed");
            }
        }
    }

    /// A pause or a broken line may be over long before the node announces itself anew, so it is asked.
    async fn keep_asking(&self) {
        let mut ticks = tokio::time::interval(ASK_AGAIN / 2);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            futures::future::join_all(self.due().into_iter().map(|(node, since, addrs)| async move {
                // A node that is stopped or cut off agrees on no protocol, though its connection may stand.
                let stream = timeout(ANSWER_WITHIN, self.node.open_stream(node, &addrs, SHARD_PROTOCOL)).await;
                if let Ok(Ok(_)) = stream {
                    self.answered(node, since);
                }
            }))
            .await;
        }
    }

    /// Routes are planned by the ways to all nodes, so those that no session has used are connected to for a ping.
    async fn keep_measuring(&self) {
        let mut ticks = tokio::time::interval(REFRESH);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let strangers = self.strangers();
            futures::future::join_all(strangers.into_iter().map(|(node, addrs)| async move {
                // Who does not answer stays unmeasured until its turn comes again.
                let _ = self.node.open_stream(node, &addrs, SHARD_PROTOCOL).await;
            }))
            .await;
            self.judge_claims();
        }
    }

    /// Takes what the pings say; the nodes to connect to next, and where they are.
    fn strangers(&self) -> Vec<(NodeId, Vec<Multiaddr>)> {
        let adverts = self.adverts();
        let (mut ways, now) = (lock(&self.ways), Instant::now());
        ways.retain(|node, way| way.at.elapsed() < KEEP_RTT && adverts.iter().any(|advert| advert.peer == *node));
        let mut strangers = Vec::new();
        for advert in &adverts {
            if let Some(rtt) = self.node.rtt(&advert.peer) {
                ways.insert(advert.peer, Way { rtt: Some(rtt), at: now });
            } else if !ways.contains_key(&advert.peer) && strangers.len() < MEASURED_AT_ONCE {
                ways.insert(advert.peer, Way { rtt: None, at: now });
                strangers.push((advert.peer, advert.shard.addrs.clone()));
            }
        }
        strangers
    }

    /// Finds out who does not stand where it says, and tells it once.
    fn judge_claims(&self) {
        let found = refuted(self.home.as_deref(), &self.offers());
        // In this order everywhere: what is locked before the adverts, then they.
        let mut known = lock(&self.refuted);
        let adverts = self.adverts.borrow();
        // Once found out, a node is not believed while it says the same: it could answer later from then on.
        known.retain(|node, region| {
            adverts.iter().flatten().any(|advert| advert.peer == *node && advert.shard.region == *region)
        });
        for advert in adverts.iter().flatten().filter(|advert| found.contains(&advert.peer)) {
            let (node, region) = (advert.peer, &advert.shard.region);
            if known.insert(node, region.clone()).is_none() {
                tracing::warn!(%node, region, "a node answers faster than light could from where it says it stands");
            }
        }
    }

    /// The nodes that do not stand where they say.
    pub(super) fn refuted(&self) -> HashSet<NodeId> {
        lock(&self.refuted).keys().copied().collect()
    }

    /// The nodes to be asked now, and where they are.
    fn due(&self) -> Vec<(NodeId, Instant, Vec<Multiaddr>)> {
        let aside = lock(&self.aside);
        let adverts = self.adverts.borrow();
        let due = adverts.iter().flatten().filter_map(|advert| {
            let lost = aside.get(&advert.peer).filter(|lost| lost.is_due(advert.seq))?;
            Some((advert.peer, lost.since, advert.shard.addrs.clone()))
        });
        due.collect()
    }

    /// Uses a node again, unless it was lost once more meanwhile.
    fn answered(&self, node: NodeId, since: Instant) {
        let mut aside = lock(&self.aside);
        if let Some(lost) = aside.get_mut(&node).filter(|lost| lost.since == since) {
            tracing::info!(%node, "a lost node answers again");
            lost.answers = true;
        }
    }

    /// Asks the DHT now. Cancel-safe.
    pub(super) async fn refresh(&self) -> Result<(), DiscoveryError> {
        let adverts = self.node.adverts(self.model).await?;
        self.adverts.send_replace(Some(adverts));
        Ok(())
    }

    /// Waits until the DHT was asked once, at most for `patience`.
    pub(super) async fn filled(&self, patience: Duration) {
        let mut adverts = self.adverts.subscribe();
        // Whoever waits longer plans with an empty table, and says so.
        let _ = tokio::time::timeout(patience, adverts.wait_for(Option::is_some)).await;
    }

    /// Adverts of nodes that are not set aside.
    pub(super) fn adverts(&self) -> Vec<Advert> {
        self.each_usable(Advert::clone)
    }

    fn each_usable<T>(&self, of: impl Fn(&Advert) -> T) -> Vec<T> {
        let mut aside = lock(&self.aside);
        let adverts = self.adverts.borrow();
        // Its old advert may be read again for as long as that lives, also after a look that did not find it.
        let may_return = |lost: &Aside| !lost.answers && lost.since.elapsed() < Duration::from_secs(MAX_LIFE_S);
        aside.retain(|_, lost| lost.since.elapsed() < SET_ASIDE || may_return(lost));
        let usable = |advert: &&Advert| aside.get(&advert.peer).is_none_or(|lost| lost.answers);
        adverts.iter().flatten().filter(usable).map(of).collect()
    }

    /// The adverts as offers, with the measured way to each node and what was seen of it.
    pub(super) fn offers(&self) -> Vec<Offer> {
        let (ways, standing, refuted, now) =
            (lock(&self.ways), lock(&self.standing), lock(&self.refuted), Instant::now());
        self.each_usable(|advert| {
            let rtt = self.node.rtt(&advert.peer).or_else(|| ways.get(&advert.peer)?.rtt);
            Offer {
                region_refuted: refuted.contains_key(&advert.peer),
                slowdown_percent: standing.slowdown_percent(&advert.peer, now),
                ..Offer::from_advert(advert, rtt)
            }
        })
    }

    /// A hop took `factor` times what its advert promises: it costs more in plans for some minutes.
    pub(super) fn slow(&self, node: NodeId, factor: f64) {
        lock(&self.standing).slow(node, factor, Instant::now());
    }

    /// Leaves out a node that was lost until it answers again.
    pub(super) fn set_aside(&self, node: NodeId) {
        lock(&self.standing).lost(node, Instant::now());
        let seq = self.adverts.borrow().iter().flatten().find(|advert| advert.peer == node).map_or(0, |a| a.seq);
        let mut aside = lock(&self.aside);
        // Many sessions may lose it at once; only a node that came back and is lost again waits longer.
        let wait = match aside.get(&node).filter(|before| before.since.elapsed() < SET_ASIDE) {
            // Never so long that it would not be asked any more.
            Some(before) if before.answers => (before.wait * 2).min(SET_ASIDE / 2),
            Some(before) => before.wait,
            None => ASK_AGAIN,
        };
        aside.insert(node, Aside { since: Instant::now(), seq, wait, answers: false });
    }
}

/// Nothing that holds one of these locks leaves what it guards in pieces.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::Span,
        peer::{Config, Keypair, ShardOffer, offer},
    };

    fn advert(peer: NodeId, seq: u64) -> Advert {
        let span = Span::new(0, 1).unwrap();
        let shard = ShardOffer {
            model: ModelHash([7; 32]),
            layers: 1,
            span,
            addrs: vec![],
            links: vec![],
            region: String::new(),
            ..offer((0, 1))
        };
        Advert { peer, seq, expires_unix_s: u64::MAX, shard }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_node_is_back_when_it_answers_and_asked_more_rarely_each_time() {
        let node = Node::spawn(Config::new(Keypair::generate_ed25519())).await.unwrap();
        let (table, peer) = (Table::new(node.clone(), ModelHash([7; 32]), None), NodeId::random());
        let announce = |seq| drop(table.adverts.send_replace(Some(vec![advert(peer, seq)])));
        let usable = || !table.adverts().is_empty();
        announce(1);
        for (seq, seconds) in [(1, 2), (2, 4), (3, 8), (4, 16), (5, 30), (6, 30)] {
            table.set_aside(peer);
            // Another session loses it too.
            table.set_aside(peer);
            announce(seq);
            assert!(!usable(), "what it says costs it nothing, and may be of just before the loss");
            tokio::time::advance(Duration::from_secs(seconds) - Duration::from_millis(1)).await;
            assert!(table.due().is_empty(), "{seconds} s");
            tokio::time::advance(Duration::from_millis(1)).await;
            let (asked, since, _) = table.due().remove(0);
            assert_eq!((asked, usable()), (peer, false), "{seconds} s");
            table.answered(peer, since);
            assert!(usable() && table.due().is_empty(), "{seconds} s");
        }
        tokio::time::advance(SET_ASIDE).await;
        table.set_aside(peer);
        assert_eq!(table.due().len(), 0);
        announce(7);
        assert_eq!((table.due().len(), usable()), (1, false), "it behaved for a while, and was perhaps started again");
        // An answer to a question from before it was lost once more is none.
        let (_, since, _) = table.due().remove(0);
        tokio::time::advance(Duration::from_secs(1)).await;
        table.set_aside(peer);
        table.answered(peer, since);
        assert!(!usable());
        node.shutdown().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_node_that_says_nothing_new_stays_out_for_as_long_as_its_advert_lives() {
        let node = Node::spawn(Config::new(Keypair::generate_ed25519())).await.unwrap();
        let (table, dead, alive) =
            (Table::new(node.clone(), ModelHash([7; 32]), None), NodeId::random(), NodeId::random());
        let announce = |adverts| drop(table.adverts.send_replace(Some(adverts)));
        let usable = || table.adverts().iter().map(|advert| advert.peer).collect::<Vec<_>>();
        let due = || table.due().iter().map(|(peer, ..)| *peer).collect::<Vec<_>>();
        announce(vec![advert(dead, 1), advert(alive, 1)]);
        table.set_aside(dead);
        tokio::time::advance(SET_ASIDE - Duration::from_millis(1)).await;
        assert_eq!((usable(), due()), (vec![alive], vec![dead]));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!((usable(), due()), (vec![alive], vec![]), "it is taken to be gone");
        announce(vec![advert(alive, 3)]);
        assert_eq!(usable(), [alive]);
        announce(vec![advert(dead, 1), advert(alive, 3)]);
        assert_eq!((usable(), due()), (vec![alive], vec![]), "a look that missed it changes nothing");
        announce(vec![advert(dead, 2), advert(alive, 3)]);
        assert_eq!((usable(), due()), (vec![alive], vec![dead]), "perhaps it was started again");
        tokio::time::advance(Duration::from_secs(MAX_LIFE_S)).await;
        assert_eq!((usable().len(), lock(&table.aside).len()), (2, 0), "what no advert can speak of is forgotten");
        node.shutdown().await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_seen_of_a_node_is_in_its_offer() {
        let node = Node::spawn(Config::new(Keypair::generate_ed25519())).await.unwrap();
        let (table, peer) = (Table::new(node.clone(), ModelHash([7; 32]), Some("eu-west".into())), NodeId::random());
        let announce = |seq, region: &str| {
            let mut advert = advert(peer, seq);
            advert.shard.region = region.into();
            drop(table.adverts.send_replace(Some(vec![advert])));
            table.judge_claims();
            let offer = table.offers().remove(0);
            (offer.slowdown_percent, offer.rtt, offer.region_refuted)
        };
        assert_eq!(announce(1, "ap-northeast"), (100, None, false));
        table.slow(peer, 4.0);
        let rtt = Some(Duration::from_millis(2));
        lock(&table.ways).insert(peer, Way { rtt, at: Instant::now() });
        assert_eq!(announce(2, "ap-northeast"), (400, rtt, true));
        assert_eq!(table.refuted(), HashSet::from([peer]));
        // It answers late from now on, and is not believed for that; another claim is judged anew.
        lock(&table.ways).insert(peer, Way { rtt: Some(Duration::from_millis(300)), at: Instant::now() });
        assert!(announce(3, "ap-northeast").2 && !announce(4, "eu-central").2);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(announce(5, "eu-central").0, 100);
        node.shutdown().await;
    }
}
